"""Tile logits -> one raster of logits.

A block of output is the blend of the tiles that overlap it: those of its own group and the outermost
ones of the eight groups around it. Each group is answered once, and only the strips that its
neighbours need outlive it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed

from geosam.masks import TileMask
from geosam.tasks import task
from geosam.tiles import TileGrid, TileGroup, around, blend_weights
from geosam.types import Tile, Window

SKIPPED = -np.inf
"""Logit where every tile over a pixel was skipped for want of prompts: a decision for land."""
UNKNOWN = np.nan
"""Logit where nothing was decided: no data, or every tile over the pixel failed."""

Index = tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """What the tiles of a group say together."""

    planes: np.ndarray | None
    """(3, height, width) float32 on the group's read window, as :func:`accumulate` makes them; None
    where it has no data."""
    tiles: tuple[TileMask, ...] = ()
    """What became of each tile, without its logits; nothing where nobody asks."""


@dataclass(frozen=True)
class Work:
    """What it takes to answer a group, as something that can be done here, elsewhere or not at all."""

    function: Callable[..., Any]
    """Answers the group."""
    inputs: tuple[Any, ...]
    """Its arguments: tasks, or lists of tasks."""
    pixels: Callable[[], Delayed] | None = None
    """Gives a task that not every group needs: the function takes what gives its result before its arguments."""


@dataclass(frozen=True)
class Mosaic:
    """A raster of logits that nothing has been computed of, nor any graph been built."""

    grid: TileGrid
    """The tiles."""
    groups: Mapping[Index, TileGroup]
    """The same in groups; the core of each is a block of the raster."""
    work: Callable[[TileGroup], Work]
    """Says what it takes to answer a group."""

    @property
    def rows(self) -> list[int]:
        """Rows of the grid of groups, in order."""
        return sorted({index[0] for index in self.groups})

    @property
    def cols(self) -> list[int]:
        """Columns of the grid of groups, in order."""
        return sorted({index[1] for index in self.groups})

    def core(self, index: Index) -> Window:
        """Return the pixels of a block."""
        core = self.groups[index].core.intersection(self.grid.scene)
        assert core is not None
        return core

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heights and widths of the blocks."""
        first, left = self.rows[0], self.cols[0]
        heights = tuple(self.core((row, left)).height for row in self.rows)
        return heights, tuple(self.core((first, col)).width for col in self.cols)


def blended(mosaic: Mosaic, name: str = "") -> da.Array:
    """Blend all tiles into one lazy array.

    Parameters
    ----------
    mosaic
        What it is made of.
    name
        Nothing is kept here, so nothing is called by it.

    Returns
    -------
    dask.array.Array
        (y, x) float32 logits, one chunk a group; :data:`SKIPPED` and :data:`UNKNOWN` as said there.
    """
    answers = {index: work_task(mosaic.work(group)) for index, group in mosaic.groups.items()}
    blocks = [[_chunk(mosaic, answers, (i, j)) for j in mosaic.cols] for i in mosaic.rows]
    return da.block(blocks)


def work_task(work: Work) -> Delayed:
    """Return the task that does it, for which all of its inputs are computed."""
    if work.pixels is None:
        return task(work.function)(*work.inputs)
    return task(_with_pixels, function=work.function)(work.pixels(), *work.inputs)


def _with_pixels(pixels: Any, *inputs: Any, function: Callable[..., Any]) -> Any:
    return function(lambda: pixels, *inputs)


def _chunk(mosaic: Mosaic, answers: Mapping[Index, Delayed], index: Index) -> da.Array:
    core = mosaic.core(index)
    block = blend_task(mosaic, answers, index)
    return da.from_delayed(block, (core.height, core.width), np.float32)


def blend_task(mosaic: Mosaic, answers: Mapping[Index, Delayed], index: Index) -> Delayed:
    """Return the task that blends a block from the answers of its group and those around it.

    Returns
    -------
    Delayed
        Of (height, width) float32 logits.
    """
    core = mosaic.core(index)
    windows, strips = [], []
    for near in around(index):
        group = mosaic.groups.get(near)
        if group is not None and (window := group.read.intersection(core)):
            windows.append(window)
            strips.append(task(_cut, read=group.read, window=window)(answers[near]))
    return task(blend, core=core, windows=windows)(strips)


def _cut(answered: Answer, read: Window, window: Window) -> np.ndarray:
    rows, cols = window.slices(read)
    assert answered.planes is not None
    return answered.planes[:, rows, cols].copy()  # a view would keep the whole group alive


def blend(strips: Sequence[np.ndarray], core: Window, windows: Sequence[Window]) -> np.ndarray:
    """Blend what the tiles around a block say of it.

    Parameters
    ----------
    strips
        (3, height, width) each, parts of planes as :func:`accumulate` makes them.
    core
        The block.
    windows
        Where each strip lies, inside the block.

    Returns
    -------
    numpy.ndarray
        (height, width) float32 logits; :data:`SKIPPED` and :data:`UNKNOWN` as said there.
    """
    total = np.zeros((3, core.height, core.width), np.float32)
    for window, strip in zip(windows, strips, strict=True):
        rows, cols = window.slices(core)
        total[:, rows, cols] += strip
    return settle(total)


def settle(total: np.ndarray) -> np.ndarray:
    """Return the logits of a block, from the sum of what the tiles around it say, (3, height, width)."""
    weighted, weights, skipped = total
    undecided = ~(weights > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        logits = np.divide(weighted, weights)
    if undecided.any():
        said = np.where(skipped > 0, np.float32(SKIPPED), np.float32(UNKNOWN))
        np.copyto(logits, said, where=undecided)
    return logits


def accumulate(
    group: TileGroup, logits: Sequence[np.ndarray | None], skipped: Sequence[bool], overlap: int
) -> np.ndarray:
    """Sum the weighted logits of a group's tiles.

    Parameters
    ----------
    group
        The tiles.
    logits
        (size, size) of each tile, or None where it gave none.
    skipped
        Whether each tile was skipped for want of prompts.
    overlap
        Pixels that neighbouring tiles share.

    Returns
    -------
    numpy.ndarray
        (3, height, width) float32 on the group's read window: weighted logits, weights, and where
        a skipped tile stands.
    """
    planes = np.zeros((3, group.read.height, group.read.width), np.float32)
    weights = blend_weights(group.tiles[0].read.height, overlap)
    for tile, tile_logits, was_skipped in zip(group.tiles, logits, skipped, strict=True):
        rows, cols = tile.read.slices(group.read)
        if tile_logits is not None:
            planes[0, rows, cols] += weights * tile_logits
            planes[1, rows, cols] += weights
        elif was_skipped:
            planes[2, rows, cols] = 1.0
    return planes


def read_tiles(pixels: np.ndarray, read: Window, tiles: Sequence[Tile]) -> list[np.ndarray]:
    """Cut each tile's read window from an array (..., y, x) on the window `read`."""
    return [pixels[(..., *tile.read.slices(read))] for tile in tiles]
