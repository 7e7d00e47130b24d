"""The few home-made nouns. Grids are ``odc.geo.geobox.GeoBox``, rasters ``xarray.DataArray``,
tables ``geopandas.GeoDataFrame``; only what those do not cover is defined here. A leaf: it imports
nothing of geosam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

Features = Mapping[str, Any]
"""Named feature maps of a batch of tiles, each with the tile as its first axis.

The arrays belong to the model that made them (numpy or torch, on its device); nobody else looks
inside but to take some tiles of a batch.
"""


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open rectangle of pixels, which may overhang the scene."""

    row: int
    """First row."""
    col: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    @property
    def row_end(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def col_end(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    def intersection(self, other: Window) -> Window | None:
        """Return the rectangle both cover, or None where they only touch or lie apart."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.row_end, other.row_end) - row
        width = min(self.col_end, other.col_end) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    def grown(self, margin: int) -> Window:
        """Return the rectangle with a margin on all sides."""
        row, col = self.row - margin, self.col - margin
        return Window(row, col, self.height + 2 * margin, self.width + 2 * margin)

    def slices(self, origin: Window | None = None) -> tuple[slice, slice]:
        """Return (row, column) slices, counted from the first pixel of `origin`."""
        row0, col0 = (origin.row, origin.col) if origin else (0, 0)
        return (
            slice(self.row - row0, self.row_end - row0),
            slice(self.col - col0, self.col_end - col0),
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """One square the model sees, and the part of it whose pixels it owns."""

    index: tuple[int, int]
    """(row, column) in the tile grid. Counted from the CRS origin, not from the scene's corner,
    so that the same ground has the same tile whatever extent was asked for."""
    core: Window
    """The pixels this tile owns. The cores of a grid partition the plane."""
    read: Window
    """The pixels the model sees: always the model's full input size, so it may overhang the
    scene. A window clipped at the scene's edge would be rescaled by the model and would change
    the ground resolution."""

    @property
    def name(self) -> str:
        """The index as text, as it stands in the layers: ``"12_-3"``."""
        return f"{self.index[0]}_{self.index[1]}"


@dataclass(frozen=True)
class PixelPrompts:
    """Prompts of one tile in the pixels of its read window, for `n` objects.

    x runs right and y down, in pixels, with (0, 0) at the outer corner of the first pixel, so
    that a pixel's centre is at (0.5, 0.5).
    """

    points: np.ndarray
    """(n, k, 2) float: x, y of k points for each object. k may be 0."""
    labels: np.ndarray
    """(n, k) int: 1 object, 0 background."""
    boxes: np.ndarray | None = None
    """(n, 4) float: x_min, y_min, x_max, y_max, or None."""
    masks: np.ndarray | None = None
    """(n, y, x) bool: the dense mask prompt; or float: the same as logits, of an earlier answer or of what
    else speaks for the object; or None."""
    beside: np.ndarray | None = None
    """(n, y, x) float32: logits that are added to the model's, of what else speaks for the object; or None."""

    def __post_init__(self) -> None:
        if self.points.ndim != 3 or self.points.shape[2] != 2:
            raise ValueError(f"Points must have shape (n, k, 2), not {self.points.shape}.")
        if self.labels.shape != self.points.shape[:2]:
            raise ValueError(
                f"Labels must have shape {self.points.shape[:2]}, not {self.labels.shape}."
            )
        if self.boxes is not None and self.boxes.shape != (len(self.points), 4):
            raise ValueError(
                f"Boxes must have shape ({len(self.points)}, 4), not {self.boxes.shape}."
            )

    @property
    def kind(self) -> tuple[int, bool, bool]:
        """What a batch has to share: points an object, with box, with mask. Never padded."""
        return self.points.shape[1], self.boxes is not None, self.masks is not None


@runtime_checkable
class Model(Protocol):
    """A promptable segmentation model. Without state between calls: features go in as a value."""

    @property
    def name(self) -> str:
        """The name it was asked for by."""

    @property
    def signature(self) -> str:
        """SHA-256 over its weights, in hexadecimal."""

    @property
    def size(self) -> int:
        """Rows and columns of its input."""

    def encode(self, pixels: np.ndarray) -> Features:
        """Turn (n, 3, size, size) float32 in [0, 1] (0.5 where nodata) into features."""

    def decode(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (n, size, size) float32 and predicted IoU (n,), one for each tile.

        `prompts` has one entry for each tile of `features`, all of one `kind` and each with one
        object.
        """


@runtime_checkable
class ManyMaskModel(Model, Protocol):
    """A model that also gives every mask it sees in an ambiguous prompt: whole, part, subpart."""

    def decode_all(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (n, m, size, size) float32 and predicted IoU (n, m).

        `prompts` as for :meth:`Model.decode`, which gives the mask of the highest predicted IoU
        where the prompt is a single click.
        """


class TextDetector(Protocol):
    """What finds objects by name."""

    def detect(
        self, image: np.ndarray, phrases: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
        """Find what phrases name in (3, y, x) float32 of 0 to 1.

        Returns boxes (n, 4) of x_min, y_min, x_max, y_max in pixels from the outer corner of the
        first, scores (n,) of 0 to 1, and for each the phrase it is for.
        """


class CoarseNetwork(Protocol):
    """A network that turns RGB into water probability without prompts."""

    @property
    def signature(self) -> str:
        """SHA-256 over its weights, in hexadecimal."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Turn (n, 3, size, size) float32 RGB in [0, 1] (0.5 where nodata) into logits
        (n, size, size) float32.
        """
