"""Pictures and the objects in them: what every protocol is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

from geosam.cutouts import Cutout, cut_out
from geosam.errors import InputError
from geosam.scores import IGNORED

MIN_OBJECT_PX = 100
"""Smaller connected parts of a label are no objects of their own."""
EIGHT = np.ones((3, 3), int)
"""Pixels that touch at a corner belong together: else thin rivers fall apart."""


class Labelled(Protocol):
    """What a data set of tiles holds."""

    @property
    def pixels(self) -> np.ndarray:
        """(3, size, size) float32, 0 to 1, nodata 0.5."""

    @property
    def label(self) -> np.ndarray:
        """(size, size) uint8: 1 object, 0 not, 255 unknown."""


@dataclass(frozen=True)
class Example:
    """A picture, and what is known to be in it."""

    pixels: np.ndarray
    """(3, size, size) float32, 0 to 1, nodata 0.5."""
    objects: np.ndarray
    """(n, size, size) bool: one mask an object. They may overlap."""
    ignore: np.ndarray
    """(size, size) bool: where nothing is known."""

    def __post_init__(self) -> None:
        shape = self.pixels.shape[1:]
        if self.objects.shape[1:] != shape or self.ignore.shape != shape:
            raise InputError(
                f"The picture has {shape} pixels, its objects {self.objects.shape[1:]} and what is "
                f"ignored {self.ignore.shape}: they need the same size."
            )

    @cached_property
    def cutouts(self) -> list[Cutout]:
        """The known parts of the objects, those without any left out."""
        cut = (cut_out(mask & ~self.ignore) for mask in self.objects)
        return [cutout for cutout in cut if cutout is not None]

    @property
    def union(self) -> np.ndarray:
        """(size, size) bool: any object, known."""
        return self.objects.any(axis=0) & ~self.ignore


Dataset = Sequence[Example | Labelled | tuple[np.ndarray, np.ndarray]]
"""Examples, labelled tiles, or pairs of pixels and labels; the connected parts of a label are its
objects."""


def examples(dataset: Dataset) -> Iterator[Example]:
    """Turn the items of a data set into examples, one by one."""
    for i in range(len(dataset)):
        yield _example(dataset[i])


def example_of(pixels: np.ndarray, label: np.ndarray, min_px: int = MIN_OBJECT_PX) -> Example:
    """Take the connected parts of a label as objects.

    Parameters
    ----------
    pixels : (3, size, size) float32
        0 to 1.
    label : (size, size) bool or uint8
        1 object, 0 not, 255 unknown.
    min_px : int
        Smaller parts are unknown: neither an object nor nothing.
    """
    parts, n = ndimage.label(label == 1, EIGHT)
    areas = np.bincount(parts.ravel(), minlength=n + 1)
    large = [k for k in range(1, n + 1) if areas[k] >= min_px]
    objects = np.stack([parts == k for k in large]) if large else np.empty((0, *label.shape), bool)
    crumbs = (parts > 0) & (areas < min_px)[parts]
    return Example(pixels, objects, (label == IGNORED) | crumbs)


def _example(item: Any) -> Example:
    if isinstance(item, Example):
        return item
    if isinstance(item, tuple):
        return example_of(*item)
    return example_of(item.pixels, item.label)
