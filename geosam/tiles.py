"""A grid -> tiles: what each owns and what the model sees of it.

The grid of tiles is counted from the origin of the CRS, not from the scene's corner. The same ground
falls into the same tile whatever extent was asked for, so a crop gives the answer of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam.errors import OptionError
from geosam.types import Tile, Window

FINEST_M = 0.25
"""Finest ground resolution, in metres, at which a model sees a scene unless it is told otherwise.
Finer orthomosaics are seen coarser: context tells water from a dark roof, centimetres do not."""
SATELLITE_M = 5.0
"""From this pixel size on, a scene is seen at half of it: its rivers are a few pixels wide, and
the masks of the embedded model have half the resolution of its input."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles that cover a grid."""

    geobox: GeoBox
    """The grid the model works on."""
    size: int
    """Rows and columns of a read window."""
    overlap: int
    """Pixels that neighbouring read windows share, at most half the size."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise OptionError(
                f"Tile overlap {self.overlap} px must be smaller than the tile size {self.size} px. "
                f"Use --overlap {self.size // 4}."
            )
        if self.overlap > self.size // 2:
            raise OptionError(
                f"Tile overlap {self.overlap} px is more than half the tile size {self.size} px. "
                f"Use --overlap {self.size // 4}."
            )

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next."""
        return self.size - self.overlap

    @property
    def scene(self) -> Window:
        """The whole grid."""
        height, width = self.geobox.shape
        return Window(0, 0, height, width)

    def tile(self, index: tuple[int, int]) -> Tile:
        """Return the tile of an index, which may overhang the scene."""
        row, col = (
            self.stride * i - origin for i, origin in zip(index, anchor(self.geobox), strict=True)
        )
        margin = self.overlap // 2
        return Tile(
            index,
            core=Window(row, col, self.stride, self.stride),
            read=Window(row - margin, col - margin, self.size, self.size),
        )

    def index_range(self) -> tuple[range, range]:
        """Return the rows and columns of tiles whose cores touch the scene."""
        return tuple(
            range(start // self.stride, (start + length - 1) // self.stride + 1)
            for start, length in zip(anchor(self.geobox), self.geobox.shape, strict=True)
        )  # type: ignore[return-value]

    def index_at(self, point: np.ndarray) -> tuple[int, int] | None:
        """Return the index of the tile that owns a point (x, y in pixels), None beyond the scene."""
        col, row = (int(np.floor(value)) for value in point)
        if not (0 <= row < self.geobox.shape[0] and 0 <= col < self.geobox.shape[1]):
            return None
        first_row, first_col = anchor(self.geobox)
        return (row + first_row) // self.stride, (col + first_col) // self.stride

    def touched_by(self, window: Window) -> list[tuple[int, int]]:
        """Return the indices of the tiles that own a pixel of a window inside the scene, row by row."""
        rows, cols = (
            range((start + origin) // self.stride, (end - 1 + origin) // self.stride + 1)
            for (start, end), origin in zip(
                ((window.row, window.row_end), (window.col, window.col_end)),
                anchor(self.geobox),
                strict=True,
            )
        )
        return [(i, j) for i in rows for j in cols]

    def __iter__(self) -> Iterator[Tile]:
        rows, cols = self.index_range()
        return (self.tile((i, j)) for i in rows for j in cols)

    def __len__(self) -> int:
        rows, cols = self.index_range()
        return len(rows) * len(cols)


@dataclass(frozen=True)
class TileGroup:
    """Neighbouring tiles that go through the model together; its core is one block of output."""

    index: tuple[int, int]
    """(row, column) in the grid of groups."""
    tiles: tuple[Tile, ...]
    """Those of its tiles that touch the scene, row by row."""
    core: Window
    """The pixels the group owns; may overhang the scene."""
    read: Window
    """The pixels its tiles see together."""


@dataclass(frozen=True)
class Groups(Mapping[tuple[int, int], TileGroup]):
    """The groups of a grid of tiles by index, each made when it is asked for: there may be many."""

    grid: TileGrid
    """The tiles."""
    per_side: int
    """Tiles a side of a group, at most."""

    def __getitem__(self, index: tuple[int, int]) -> TileGroup:
        rows, cols = (
            range(max(i * self.per_side, there.start), min((i + 1) * self.per_side, there.stop))
            for i, there in zip(index, self.grid.index_range(), strict=True)
        )
        tiles = [self.grid.tile((row, col)) for row in rows for col in cols]
        if not tiles:
            raise KeyError(index)
        return _group(self.grid, self.per_side, index, tiles)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows, cols = self._ranges()
        return ((row, col) for row in rows for col in cols)

    def __len__(self) -> int:
        rows, cols = self._ranges()
        return len(rows) * len(cols)

    def __contains__(self, index: object) -> bool:
        rows, cols = self._ranges()
        return isinstance(index, tuple) and index[0] in rows and index[1] in cols

    def _ranges(self) -> list[range]:
        return [
            range(there.start // self.per_side, (there.stop - 1) // self.per_side + 1)
            for there in self.grid.index_range()
        ]


def group_tiles(grid: TileGrid, per_side: int) -> Groups:
    """Bundle the tiles of a grid, `per_side` x `per_side` at most, anchored as the tiles are."""
    return Groups(grid, per_side)


def _group(grid: TileGrid, per_side: int, index: tuple[int, int], tiles: list[Tile]) -> TileGroup:
    first = grid.tile((index[0] * per_side, index[1] * per_side))
    extent = per_side * grid.stride
    core = Window(first.core.row, first.core.col, extent, extent)
    read = Window(first.read.row, first.read.col, extent + grid.overlap, extent + grid.overlap)
    return TileGroup(index, tuple(tiles), core, read)


def around(index: tuple[int, int]) -> list[tuple[int, int]]:
    """Return an index and the eight around it, row by row."""
    return [(index[0] + i, index[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def anchor(geobox: GeoBox) -> tuple[int, int]:
    """Return (row, col) of the grid's first pixel, counted from the origin of the CRS along the
    grid's own axes, to the nearest whole pixel.
    """
    linear = _linear_part(geobox.affine)
    col, row = ~linear @ (geobox.affine.c, geobox.affine.f)
    return round(row), round(col)


def zoom_factor(native_m: float, wanted_m: float | None = None) -> float:
    """Return how much coarser the model's grid is than the scene's: k for one pixel in k, 1/k for
    k pixels in one.

    Parameters
    ----------
    native_m
        The scene's pixel on the ground in metres.
    wanted_m
        The resolution asked for in metres; chosen from the scene without it.
    """
    wanted_m = wanted_m or default_resolution(native_m)
    if wanted_m >= native_m:
        return float(max(1, round(wanted_m / native_m)))
    return 1.0 / max(1, round(native_m / wanted_m))


def default_resolution(native_m: float) -> float:
    """Return the ground resolution, in metres, at which a scene is seen best."""
    if native_m >= SATELLITE_M:
        return native_m / 2
    return max(native_m, FINEST_M)


def zoom(geobox: GeoBox, factor: float) -> GeoBox:
    """Return the grid `factor` times as coarse, snapped to whole coarse pixels from the CRS origin,
    so that two crops of a scene are seen on the same grid. It may overhang by less than a pixel.
    """
    if factor <= 1:
        finer = round(1 / factor)
        height, width = (side * finer for side in geobox.shape)
        return GeoBox((height, width), geobox.affine @ Affine.scale(1 / finer), geobox.crs)
    step = round(factor)
    row, col = (start % step for start in anchor(geobox))
    height, width = geobox.shape
    shape = (math.ceil((height + row) / step), math.ceil((width + col) / step))
    affine = geobox.affine @ Affine.translation(-col, -row) @ Affine.scale(step)
    return GeoBox(shape, affine, geobox.crs)


def blend_weights(size: int, overlap: int) -> np.ndarray:
    """Return (size, size) float32 weights that rise from each side over the overlap by a squared
    sine and sum to 1 where all neighbours are there.
    """
    ramp = np.sin((np.arange(overlap) + 0.5) / max(overlap, 1) * np.pi / 2) ** 2
    line = np.ones(size)
    line[:overlap] = ramp
    line[size - overlap :] *= ramp[::-1]
    return np.outer(line, line).astype(np.float32)


def _linear_part(affine: Affine) -> Affine:
    return Affine(affine.a, affine.b, 0.0, affine.d, affine.e, 0.0)
