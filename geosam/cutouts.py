"""Masks kept as their box and what is in it: a thousand of them are a few megabytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from geosam.boxes import box_of
from geosam.types import Window


@dataclass(frozen=True)
class Cutout:
    """The part of a mask inside its own box."""

    window: Window
    """Where the box is."""
    mask: np.ndarray
    """(window.height, window.width) bool."""
    area: int = field(init=False)
    """Number of its pixels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", int(self.mask.sum()))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x_min, y_min, x_max, y_max in pixels from the outer corner of the first."""
        return self.window.col, self.window.row, self.window.col_end, self.window.row_end

    def paste(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the whole mask, (y, x) bool."""
        whole = np.zeros(shape, bool)
        whole[self.window.slices()] = self.mask
        return whole


def cut_out(mask: np.ndarray) -> Cutout | None:
    """Cut a mask, (y, x) bool, out of its surroundings; None where it is empty."""
    box = box_of(mask)
    if box is None:
        return None
    window = Window(box[1], box[0], box[3] - box[1], box[2] - box[0])
    return Cutout(window, mask[window.slices()].copy())


def mask_iou(a: Cutout, b: Cutout) -> float:
    """Compute intersection over union of two masks."""
    both = a.window.intersection(b.window)
    if both is None:
        return 0.0
    common = int((a.mask[both.slices(a.window)] & b.mask[both.slices(b.window)]).sum())
    return common / (a.area + b.area - common)


def mask_ious(a: Sequence[Cutout], b: Sequence[Cutout]) -> np.ndarray:
    """Compute intersection over union of n masks with m, (n, m)."""
    out = np.zeros((len(a), len(b)))
    for i, first in enumerate(a):
        out[i] = [mask_iou(first, second) for second in b]
    return out
