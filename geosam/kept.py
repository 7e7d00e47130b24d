"""What a run keeps of a scene, read back for any part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.ledger import Index, Ledger
from geosam.prompts.scene_prompts import ScenePrompts, from_arrays
from geosam.tasks import task
from geosam.tiles import TileGrid, TileGroup, group_tiles
from geosam.types import Window
from geosam.views import Looks, covering


@dataclass(frozen=True)
class Blocks:
    """How a raster is cut into blocks."""

    geobox: GeoBox
    """Its grid."""
    rows: tuple[int, ...]
    """First row of each row of blocks, and one past the last."""
    cols: tuple[int, ...]
    """The same of columns."""
    first: Index = (0, 0)
    """Index of the block in the top left corner."""

    def indices(self) -> list[Index]:
        """Return the blocks, row by row."""
        return self.touched(Window(0, 0, *self.geobox.shape))

    def touched(self, window: Window) -> list[Index]:
        """Return the blocks that a window touches, row by row."""
        rows = _between(self.rows, window.row, window.row_end)
        cols = _between(self.cols, window.col, window.col_end)
        return [(self.first[0] + i, self.first[1] + j) for i in rows for j in cols]

    def window(self, index: Index) -> Window:
        """Return the pixels of a block."""
        i, j = index[0] - self.first[0], index[1] - self.first[1]
        row, col = self.rows[i], self.cols[j]
        return Window(row, col, self.rows[i + 1] - row, self.cols[j + 1] - col)

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heights and widths."""
        rows, cols = (tuple(map(int, np.diff(ends))) for ends in (self.rows, self.cols))
        return rows, cols


def cut_blocks(geobox: GeoBox, side: int) -> Blocks:
    """Cut a grid into squares from its first pixel on."""
    rows, cols = ((*range(0, length, side), length) for length in geobox.shape)
    return Blocks(geobox, rows, cols)


def group_blocks(grid: TileGrid, groups: Mapping[Index, TileGroup]) -> Blocks:
    """Return the blocks that are the cores of groups of tiles."""
    first, last = min(groups), max(groups)

    def core(row: int, col: int) -> Window:
        inside = groups[row, col].core.intersection(grid.scene)
        assert inside is not None
        return inside

    heights = [core(row, first[1]).height for row in range(first[0], last[0] + 1)]
    widths = [core(first[0], col).width for col in range(first[1], last[1] + 1)]
    rows, cols = (tuple(accumulate(sizes, initial=0)) for sizes in (heights, widths))
    return Blocks(grid.geobox, rows, cols, first)


@dataclass(frozen=True)
class Kept:
    """A raster (y, x) on disk: a step that has been done."""

    ledger: Ledger
    """Its blocks, each a value where it is the same everywhere."""
    blocks: Blocks
    """Where they lie."""
    dtype: str = "uint8"
    """Of its values."""
    on: str = "working"
    """Which of the looks at a scene it lies on."""

    def save(self, index: Index, values: np.ndarray) -> None:
        """Keep a block."""
        self.ledger.save(index, _compact(values))

    def __call__(self, looks: Looks) -> xr.DataArray:
        """Return the pixels of a part of the scene, which are read at once."""
        values = da.from_array(self.pixels(looks), chunks=-1, name=False)
        return on_grid(values, looks.grid(self.on))

    def pixels(self, looks: Looks) -> np.ndarray:
        """Return the pixels of a part of the scene without coordinates."""
        return self.read(covering(looks.grid(self.on), self.blocks.geobox))

    def read(self, window: Window) -> np.ndarray:
        """Return the pixels of a window inside the raster."""
        out = np.empty((window.height, window.width), self.dtype)
        for index in self.blocks.touched(window):
            block = self.blocks.window(index)
            common = block.intersection(window)
            assert common is not None
            out[common.slices(window)] = self._block(index)[common.slices(block)]
        return out

    def lazy(self) -> xr.DataArray:
        """Return all of it, one chunk a block."""
        data = da.map_blocks(
            _chunk, kept=self, chunks=self.blocks.chunks, meta=np.empty((0, 0), self.dtype)
        )
        return on_grid(data, self.blocks.geobox)

    def _block(self, index: Index) -> np.ndarray:
        block = self.ledger.load(index)
        return np.broadcast_to(block["values"], tuple(block["shape"]))


def _chunk(kept: Kept, block_id: Index) -> np.ndarray:
    first = kept.blocks.first
    return kept._block((block_id[0] + first[0], block_id[1] + first[1]))


def _compact(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return a block that is the same everywhere, as most of a large scene is, as one value."""
    first = values[:1, :1]
    same = np.isnan(values).all() if np.isnan(first).all() else (values == first).all()
    return {"values": first if same else values, "shape": np.array(values.shape)}


@dataclass(frozen=True)
class KeptPrompts:
    """The prompts of groups on disk, on the pixels of the whole grid."""

    ledger: Ledger
    """One block a group."""
    grid: TileGrid
    """The tiles."""
    per_side: int
    """Tiles a side of a group."""

    def __call__(self, looks: Looks) -> dict[Index, Delayed]:
        """Return tasks that give the prompts of the groups of a part, on its own pixels."""
        box = looks.grid()
        part = TileGrid(box, self.grid.size, self.grid.overlap)
        corner = covering(box, self.grid.geobox)
        read = partial(_read_prompts, kept=self, corner=corner)
        return {index: task(read, index=index)() for index in group_tiles(part, self.per_side)}

    def load(self, index: Index) -> ScenePrompts:
        """Return the prompts of a group, on the pixels of the whole grid."""
        return from_arrays(self.ledger.load(index))


def _read_prompts(kept: KeptPrompts, corner: Window, index: Index) -> ScenePrompts:
    return kept.load(index).moved(-corner.col, -corner.row)


def on_grid(values: Any, geobox: GeoBox) -> xr.DataArray:
    """Label a (y, x) array with the coordinates of its grid."""
    return xr.DataArray(values, coords=xr_coords(geobox, always_yx=True), dims=("y", "x"))


def _between(starts: tuple[int, ...], first: int, end: int) -> range:
    low = int(np.searchsorted(starts, first, side="right")) - 1
    high = int(np.searchsorted(starts, end, side="left"))
    return range(max(0, low), min(len(starts) - 1, high))
