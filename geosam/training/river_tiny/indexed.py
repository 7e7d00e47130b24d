"""Labels by a water index: near infrared teaches what water looks like in colours alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import rasterio

from geosam.indices import INDICES, mndwi, ndwi
from geosam.thresholds import choose_threshold
from geosam.training.sample import IGNORE, LAND, WATER

INDEXED: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "irrawaddy_s2": (3, 4, 5, 9),
        "naip_dakota_2009": (3, 2, 1, 4),
        "naip_dakota_2014": (3, 2, 1, 4),
        "naip_dakota_2019": (3, 2, 1, 4),
        "haiti_rgbn": (3, 2, 1, 4),
        "olinda_l7": (1, 2, 3, 4),
    }
)
"""Scenes without labels, and their blue, green, red and near infrared, counted from 1."""

UNSURE = 0.06
"""How far from the threshold an index says nothing: pixels of banks and of wet ground."""

_STEPS = 10_000
"""Steps of reflectance, for scenes that are stored as fractions of 1."""


def read_indexed(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a scene and label it by its NDWI.

    Parameters
    ----------
    data : Path
        Folder with the folder `scenes`.
    name : str
        One of `INDEXED`.

    Returns
    -------
    pixels : numpy.ndarray, (5, y, x) int16
        Blue, green, red, near infrared, and near infrared again for the missing short wave.
    label : numpy.ndarray, (y, x) uint8
        LAND, WATER and IGNORE.
    """
    blue, green, red, nir = INDEXED[name]
    with rasterio.open(data / "scenes" / f"{name}.tif") as source:
        bands = source.read([blue, green, red, nir, nir]).astype(np.float32)
    bands = np.nan_to_num(bands)
    steps = _STEPS if bands.max() < 2 else 1
    pixels = np.clip(np.rint(bands * steps), 0, np.iinfo(np.int16).max).astype(np.int16)
    return pixels, label_by_ndwi(bands[1], bands[3])


def label_by_ndwi(green: np.ndarray, nir: np.ndarray) -> np.ndarray:
    """Label a scene by its own threshold of NDWI; land everywhere where it parts nothing.

    Parameters
    ----------
    green, nir : numpy.ndarray, (y, x)
        0 in both is nodata.

    Returns
    -------
    numpy.ndarray, (y, x) uint8
        LAND, WATER, and IGNORE in nodata and near the threshold.
    """
    nodata = (green == 0) & (nir == 0)
    index = ndwi(green, nir)
    chosen = choose_threshold(np.where(nodata, np.nan, index), INDICES["ndwi"])
    label = np.where(index > chosen.value, WATER, LAND)
    if not chosen.separable:
        label[:] = LAND
        return np.where(nodata, IGNORE, label).astype(np.uint8)
    return np.where(nodata | (abs(index - chosen.value) < UNSURE), IGNORE, label).astype(np.uint8)


def agreed(pixels: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Keep of a label what the sign of MNDWI agrees with.

    The labels of the five-band chips are wider than the rivers and hold fields that were wet at
    another time: a network that learns them from colours learns that fields are water.

    Parameters
    ----------
    pixels : numpy.ndarray, (5, y, x)
        Blue, green, red, near infrared, short wave.
    label : numpy.ndarray, (y, x) uint8

    Returns
    -------
    numpy.ndarray, (y, x) uint8
        IGNORE where index and label differ.
    """
    wet = mndwi(pixels[1].astype(np.float32), pixels[4].astype(np.float32)) > 0
    return np.where(wet == (label == WATER), label, IGNORE).astype(np.uint8)
