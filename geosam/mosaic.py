"""Tile logits -> one lazy raster of logits.

A block of output is the blend of the tiles that overlap it: those of its own group and the outermost
ones of the eight groups around it. Each group is computed once, and only the strips that its
neighbours need outlive it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import dask.array as da
import numpy as np
from dask.delayed import Delayed

from geosam.tasks import task
from geosam.tiles import TileGrid, TileGroup, around, blend_weights
from geosam.types import Tile, Window

SKIPPED = -np.inf
"""Logit where every tile over a pixel was skipped for want of prompts: a decision for land."""
UNKNOWN = np.nan
"""Logit where nothing was decided: no data, or every tile over the pixel failed."""

PredictGroup = Callable[[TileGroup], Delayed]
"""A group -> a task that gives its planes, as :func:`accumulate` makes them."""


def mosaic_logits(
    grid: TileGrid, groups: Mapping[tuple[int, int], TileGroup], predict: PredictGroup
) -> da.Array:
    """Blend the logits of all tiles into one lazy array on the grid.

    Parameters
    ----------
    grid
        The tiles.
    groups
        The same tiles in groups, by index; see :func:`geosam.tiles.group_tiles`.
    predict
        Makes the task of a group.

    Returns
    -------
    dask.array.Array
        (y, x) float32 logits, one chunk a group; :data:`SKIPPED` and :data:`UNKNOWN` as said there.
    """
    planes = {index: predict(group) for index, group in groups.items()}
    rows = sorted({index[0] for index in groups})
    cols = sorted({index[1] for index in groups})
    blocks = [[_block(grid, groups, planes, (i, j)) for j in cols] for i in rows]
    return da.block(blocks)


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


def _block(
    grid: TileGrid,
    groups: Mapping[tuple[int, int], TileGroup],
    planes: Mapping[tuple[int, int], Delayed],
    index: tuple[int, int],
) -> da.Array:
    core = groups[index].core.intersection(grid.scene)
    assert core is not None
    strips = []
    for neighbour in around(index):
        if neighbour in groups and (window := groups[neighbour].read.intersection(core)):
            cut = task(_cut, read=groups[neighbour].read, window=window)
            strips.append((window, cut(planes[neighbour])))
    windows = [window for window, _ in strips]
    block = task(_blend, core=core, windows=windows)([strip for _, strip in strips])
    return da.from_delayed(block, (core.height, core.width), np.float32)


def _cut(planes: np.ndarray, read: Window, window: Window) -> np.ndarray:
    rows, cols = window.slices(read)
    return planes[:, rows, cols].copy()  # a view would keep the whole group alive


def _blend(strips: list[np.ndarray], core: Window, windows: list[Window]) -> np.ndarray:
    total = np.zeros((3, core.height, core.width), np.float32)
    for window, strip in zip(windows, strips, strict=True):
        rows, cols = window.slices(core)
        total[:, rows, cols] += strip
    weighted, weights, skipped = total
    undecided = np.where(skipped > 0, np.float32(SKIPPED), np.float32(UNKNOWN))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 0, weighted / weights, undecided)


def read_tiles(pixels: np.ndarray, read: Window, tiles: Sequence[Tile]) -> list[np.ndarray]:
    """Cut each tile's read window from an array (..., y, x) on the window `read`."""
    return [pixels[(..., *tile.read.slices(read))] for tile in tiles]
