"""The two simplest test objects: a river mask one can count on, and a model without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geosam.types import Features, PixelPrompts


def sinuous_river_mask(shape: tuple[int, int], n_islands: int = 3) -> np.ndarray:
    """Draw a river that winds from the left edge to the right, with islands at even distances.

    Two and a half waves of a sine; its half width is 1/20 of the height, its islands are discs of
    half that radius on the middle line, so that each is a hole of its own.

    Parameters
    ----------
    shape
        (height, width) in pixels, at least (64, 64), and not much higher than wide.
    n_islands
        Number of islands, 0 to 8; in less than 100 pixels no more than 3.

    Returns
    -------
    (height, width) bool
        True where water. One 8-connected component with `n_islands` holes.

    Examples
    --------
    >>> sinuous_river_mask((64, 128)).mean().round(2)
    np.float64(0.16)
    """
    height, width = shape
    rows, cols = np.mgrid[:height, :width] + 0.5
    half_width = height / 20
    wave = 2.5 * 2 * np.pi / width
    middle = height / 2 + 0.25 * height * np.sin(wave * cols)
    slope = 0.25 * height * wave * np.cos(wave * cols)
    # Across the river, not straight down: else it would be thin where it runs steeply.
    river = np.abs(rows - middle) <= half_width * np.hypot(1, slope)
    for col in width * (np.arange(n_islands) + 0.5) / max(n_islands, 1):
        row = height / 2 + 0.25 * height * np.sin(wave * col)
        river &= np.hypot(rows - row, cols - col) > half_width / 2
    return river


@dataclass(frozen=True)
class FakeModel:
    """A model without weights or memory: the darker a pixel, the surer it is water.

    For tests of geometry: tiling, blending and vectors can be checked exactly, because the logit
    of a pixel depends on that pixel alone. It ignores the prompts.
    """

    size: int = 64
    """Rows and columns of its input."""
    name: str = "fake"
    """The name it was asked for by."""
    signature: str = "0" * 64
    """Stands for the SHA-256 of weights it does not have."""

    def encode(self, pixels: np.ndarray) -> Features:
        """Keep the mean of the three bands, (n, size, size)."""
        return {"brightness": pixels.mean(axis=1)}

    def decode(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return 20 (0.5 - brightness) as logits, and 0.9 as predicted IoU."""
        logits = 20 * (0.5 - features["brightness"])
        return logits.astype("float32"), np.full(len(logits), 0.9, dtype="float32")

    def decode_all(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a smaller, the usual and a larger mask; the usual one is rated best."""
        usual, _ = self.decode(features, prompts)
        scores = np.tile(np.array([0.8, 0.9, 0.7], np.float32), (len(usual), 1))
        return np.stack([usual - 4, usual, usual + 4], axis=1), scores
