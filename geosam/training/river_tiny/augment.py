"""Make tiles look like scenes nobody has seen: colour, haze, noise, blur, collars."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from geosam.training.river_tiny.painting import smooth_noise
from geosam.training.river_tiny.tiles import NODATA_FILL
from geosam.training.sample import IGNORE, WATER, Sample

WATER_RECOLOURED = 0.3
"""Share of the tiles whose water gets another colour: what it looks like elsewhere nobody knows."""


MOST_UNKNOWN = 0.05
"""Where more is unlabelled, some of it may be the same water, and recolouring would draw a line
where no bank is."""


def augment(
    sample: Sample,
    rng: np.random.Generator,
    strength: float = 1.0,
    recoloured: float = WATER_RECOLOURED,
) -> Sample:
    """Change colour, sharpness and orientation of a tile, and cut a collar into some.

    Parameters
    ----------
    sample : Sample
        Pixels 0 to 1.
    rng : numpy.random.Generator
        Decides everything random.
    strength : float
        Scales how far colours move; 0 leaves them.
    recoloured : float
        Share of tiles whose water gets another colour.

    Returns
    -------
    Sample
    """
    nodata = (sample.pixels == NODATA_FILL).all(0)
    pixels = sample.pixels
    if rng.random() < recoloured and (sample.label == IGNORE).mean() < MOST_UNKNOWN:
        pixels = recolour_water(pixels, sample.label == WATER, rng)
    pixels = recolour(pixels, rng, strength)
    pixels = degrade(pixels, rng)
    pixels = np.where(nodata, NODATA_FILL, pixels).astype(np.float32)
    pixels, label = flip(pixels, sample.label, rng)
    if rng.random() < 0.15:
        pixels, label = cut_collar(pixels, label, rng)
    return Sample(pixels, label, sample.zoom)


def recolour_water(pixels: np.ndarray, water: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give the water of a tile another colour, a slope in brightness, and sometimes glint.

    Its texture stays, so that a network learns how water lies in the land and not which colours
    the training images happen to have.

    Parameters
    ----------
    pixels : numpy.ndarray, (3, y, x)
        0 to 1.
    water : numpy.ndarray, (y, x) bool
    rng : numpy.random.Generator
        Decides everything random.

    Returns
    -------
    numpy.ndarray, (3, y, x) float32
    """
    if not water.any() or water.all():
        return pixels
    size = water.shape[0]
    feather = ndimage.gaussian_filter(water.astype(np.float32), rng.uniform(0.5, 1.2))
    mean = pixels[:, water].mean(1)[:, None, None]
    colour = mean * np.exp(rng.normal(0, 0.15, (3, 1, 1))) * np.exp(rng.normal(0, 0.35))
    colour = colour + rng.normal(0, 0.06, (3, 1, 1))
    slope = rng.uniform(0, 0.12) * smooth_noise(size, rng.uniform(0.5, 4), rng)
    moved = colour * (1 + 2 * slope) + (pixels - mean) * rng.uniform(0.6, 1.6)
    if rng.random() < 0.35:
        moved = moved + _glint(size, rng)
    out = pixels + (np.clip(moved, 0, 1) - pixels) * feather
    return out.astype(np.float32)


def _glint(size: int, rng: np.random.Generator) -> np.ndarray:
    """Sun on ripples: fine grain, stronger on one side, of the colour of the light, (3, y, x)."""
    grain = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), 0.8)
    where = np.clip(smooth_noise(size, rng.uniform(0.5, 3), rng), 0, 2)
    light = rng.uniform(0.5, 1.0, (3, 1, 1)) * rng.uniform(0.03, 0.15)
    return light * where * (1 + 3 * grain)


def recolour(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Gain, offset and gamma for each channel, saturation, haze, rarely swapped channels."""
    sigma = strength * rng.choice([0.03, 0.1, 0.2], p=[0.3, 0.4, 0.3])
    shared = np.exp(rng.normal(0, 0.15 * strength))
    gain = np.float32(shared * np.exp(rng.normal(0, sigma, (3, 1, 1))))
    bend = rng.normal(0, 0.2 * strength) + rng.normal(0, sigma / 2, (3, 1, 1))
    offset = rng.normal(0, 0.05 * strength) + rng.normal(0, sigma / 4, (3, 1, 1))
    out = gain * np.power(np.maximum(pixels, 0), np.float32(np.exp(bend))) + np.float32(offset)
    if rng.random() < 0.5 * strength:
        grey = out.mean(0, keepdims=True)
        out = grey + (out - grey) * np.float32(rng.uniform(0.2, 1.7))
    if rng.random() < 0.2 * strength:
        haze = np.float32(rng.uniform(0, 0.4))
        out = out * (1 - haze) + haze * np.float32(rng.uniform(0.4, 0.9, (3, 1, 1)))
    draw = rng.random()
    if draw < 0.03 * strength:
        out = out[rng.permutation(3)]
    elif draw < 0.05 * strength:
        out = np.broadcast_to(out.mean(0), out.shape)
    return np.clip(out, 0, 1)


def degrade(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, sharpen, add sensor noise, or compress as JPEG, each to some tiles."""
    out = pixels
    if rng.random() < 0.15:
        sigma = rng.uniform(0.4, 1.5)
        out = ndimage.gaussian_filter(out, (0, sigma, sigma), truncate=2.5)
    elif rng.random() < 0.1:
        out = out + rng.uniform(0.3, 1.0) * (out - ndimage.uniform_filter(out, (0, 3, 3)))
    if rng.random() < 0.3:
        noise = rng.standard_normal(out.shape, dtype=np.float32)
        out = out + np.float32(rng.uniform(0.005, 0.04)) * noise
    if rng.random() < 0.15:
        out = _compress(out, int(rng.integers(30, 85)))
    return np.clip(out, 0, 1)


def _compress(pixels: np.ndarray, quality: int) -> np.ndarray:
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer), np.float32) / 255.0
    return decoded.transpose(2, 0, 1)


def flip(
    pixels: np.ndarray, label: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One of the eight orientations of a square."""
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    pixels, label = np.rot90(pixels, turns, (1, 2)), np.rot90(label, turns)
    if mirrored:
        pixels, label = pixels[:, :, ::-1], label[:, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(label)


def cut_collar(
    pixels: np.ndarray, label: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Replace one side of a tile by nodata along a slanting, wavy line."""
    size = label.shape[0]
    rows, cols = np.mgrid[0:size, 0:size] / size - 0.5
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else np.pi / 2 * rng.integers(4)
    along = rows * np.cos(angle) - cols * np.sin(angle)
    wave = rng.uniform(0, 0.06) * np.sin(along * rng.uniform(5, 40) + rng.uniform(0, 6))
    beyond = rows * np.sin(angle) + cols * np.cos(angle) + wave > rng.uniform(0.0, 0.48)
    pixels = np.where(beyond, np.float32(NODATA_FILL), pixels)
    return pixels, np.where(beyond, IGNORE, label).astype(np.uint8)
