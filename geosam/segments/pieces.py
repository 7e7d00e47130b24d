"""Masks of tiles as polygons: what each tile saw of the objects in it, and where it was cut.

Polygons are in pixels of the model's grid, x = column and y = row, along pixel edges. A mask is one
piece: its largest part whose pixels share edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import rasterio.features
import shapely
import shapely.affinity
from affine import Affine

from geosam.cutouts import Cutout
from geosam.generation import CUT_PX, GeneratedMask
from geosam.types import Tile, Window


@dataclass(frozen=True)
class Pieces:
    """Pieces of objects, in columns."""

    polygon: np.ndarray
    """(n,) object: shapely polygons."""
    predicted_iou: np.ndarray
    """(n,) float: the model's own estimate."""
    stability: np.ndarray
    """(n,) float: IoU of the masks at a higher and at a lower threshold."""
    point: np.ndarray
    """(n, 2) float: x, y of what was asked."""
    tile: np.ndarray
    """(n, 2) int: index of the tile."""
    core: np.ndarray
    """(n, 4) int: x_min, y_min, x_max, y_max of the pixels the tile owns."""
    read: np.ndarray
    """(n, 4) int: the same of the pixels it sees."""
    cut: np.ndarray
    """(n,) bool: the object goes on beyond what the tile sees."""
    sure: np.ndarray
    """(n,) bool: False of faint ones, which only go on with what another tile is sure of."""

    def __len__(self) -> int:
        return len(self.polygon)

    def take(self, which: np.ndarray) -> Pieces:
        """Return some pieces, by index or by mask."""
        return Pieces(*(getattr(self, column.name)[which] for column in fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[Pieces]) -> Pieces:
        """Return the pieces of several tiles as one."""
        parts = [part for part in parts if len(part)] or list(parts[:1]) or [no_pieces()]
        names = [column.name for column in fields(Pieces)]
        return Pieces(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def no_pieces() -> Pieces:
    """Return no pieces."""
    none, four = np.empty(0), np.empty((0, 4), int)
    polygons, tiles = np.empty(0, object), np.empty((0, 2), int)
    return Pieces(
        polygons, none, none, np.empty((0, 2)), tiles, four, four, *np.empty((2, 0), bool)
    )


def pieces_of(masks: Sequence[GeneratedMask], tile: Tile, scene: Window) -> Pieces:
    """Turn the masks of a tile into pieces.

    Parameters
    ----------
    masks
        In pixels of the tile's read window.
    tile
        The tile.
    scene
        All of the model's grid: where the scene ends nothing is cut.

    Returns
    -------
    Pieces
        In pixels of the model's grid.
    """
    if not masks:
        return no_pieces()
    n, read = len(masks), tile.read
    boxes = np.array([mask.cutout.box for mask in masks])
    points = np.add([mask.click for mask in masks], [read.col, read.row])
    polygons = np.empty(n, object)
    polygons[:] = [polygon_of(mask.cutout, read) for mask in masks]
    return Pieces(
        polygons,
        np.array([mask.predicted_iou for mask in masks]),
        np.array([mask.stability for mask in masks]),
        points,
        np.tile(tile.index, (n, 1)),
        np.tile(_box(tile.core), (n, 1)),
        np.tile(_box(read), (n, 1)),
        _cut(boxes, read, scene),
        np.array([mask.sure for mask in masks]),
    )


def polygon_of(cutout: Cutout, origin: Window) -> shapely.Polygon:
    """Draw the largest part of a mask along its pixel edges, counted as `origin` is."""
    col, row = origin.col + cutout.window.col, origin.row + cutout.window.row
    mask = cutout.mask.view(np.uint8)
    # A pixel aside, because rasterio takes the identity for a missing transform and warns.
    aside = Affine.translation(1, 1)
    parts = rasterio.features.shapes(mask, mask=cutout.mask, connectivity=4, transform=aside)
    largest = max((shapely.geometry.shape(part) for part, _ in parts), key=lambda part: part.area)
    return shapely.affinity.translate(largest, col - 1, row - 1)


def pack(pieces: Pieces) -> dict[str, np.ndarray]:
    """Return pieces as arrays of numbers."""
    polygons = [shapely.to_wkb(polygon) for polygon in pieces.polygon]
    columns = {column.name: getattr(pieces, column.name) for column in fields(pieces)}
    return columns | {
        "polygon": np.frombuffer(b"".join(polygons), np.uint8),
        "length": np.array([len(polygon) for polygon in polygons], int),
    }


def unpack(arrays: Mapping[str, np.ndarray]) -> Pieces:
    """Return the pieces that :func:`pack` made arrays of."""
    ends = np.cumsum(arrays["length"])
    data = arrays["polygon"].tobytes()
    starts = ends - arrays["length"]
    polygons = np.empty(len(ends), object)
    polygons[:] = [
        shapely.from_wkb(data[start:end]) for start, end in zip(starts, ends, strict=True)
    ]
    others = {column.name: arrays[column.name] for column in fields(Pieces)}
    return Pieces(**{**others, "polygon": polygons})


def _cut(boxes: np.ndarray, read: Window, scene: Window) -> np.ndarray:
    """Mark boxes that reach an edge of what a tile sees beyond which the scene goes on."""
    edges = np.array([CUT_PX, CUT_PX, -(read.width - CUT_PX), -(read.height - CUT_PX)])
    near = boxes * (1, 1, -1, -1) <= edges
    goes_on = np.array(_box(scene)) * (1, 1, -1, -1) < np.array(_box(read)) * (1, 1, -1, -1)
    return np.any(near & goes_on, axis=1)


def _box(window: Window) -> tuple[int, int, int, int]:
    return window.col, window.row, window.col_end, window.row_end
