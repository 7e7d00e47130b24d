"""Tiles shown otherwise in every epoch: turned, flipped, recoloured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geosam.training.sample import Sample

NODATA = 0.5
"""Pixels without data; they stay so."""
_SALT = 1
"""Keeps these draws apart from those of the prompts of the same item."""


@dataclass(frozen=True)
class Variation:
    """How tiles vary from epoch to epoch."""

    seed: int
    """With epoch and item it decides everything."""

    flip: bool = False
    """Whether they are flipped and turned by quarters."""

    colour: float = 0.0
    """Strength of changes of brightness, contrast and tint, 0 to 1."""

    def __call__(self, sample: Sample, item: int, epoch: int) -> Sample:
        """Return a tile as it is shown in an epoch."""
        rng = np.random.default_rng([self.seed, epoch, item, _SALT])
        pixels, label = sample.pixels, sample.label
        if self.flip:
            pixels, label = _turned(pixels, label, int(rng.integers(4)), bool(rng.integers(2)))
        if self.colour:
            pixels = _recoloured(pixels, self.colour, rng)
        return Sample(pixels, label, sample.zoom)


def _turned(
    pixels: np.ndarray, label: np.ndarray, quarters: int, mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    pixels, label = np.rot90(pixels, quarters, (1, 2)), np.rot90(label, quarters)
    if mirrored:
        pixels, label = pixels[:, :, ::-1], label[:, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(label)


def _recoloured(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change contrast and brightness of all bands, and a little more of each by itself."""
    gain = 1 + strength * (rng.uniform(-0.4, 0.4) + rng.uniform(-0.1, 0.1, (3, 1, 1)))
    shift = strength * (rng.uniform(-0.2, 0.2) + rng.uniform(-0.05, 0.05, (3, 1, 1)))
    changed = np.clip((pixels - 0.5) * gain + 0.5 + shift, 0, 1).astype(np.float32)
    return np.where((pixels == NODATA).all(0), np.float32(NODATA), changed)
