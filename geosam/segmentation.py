"""Pixels, prompts and a model -> the mosaic of a scene's logits, and their probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geosam.masks import SKIPPED_NO_PROMPT, segment_tiles
from geosam.mosaic import Answer, Index, Mosaic, Work, accumulate, read_tiles
from geosam.prompts.automatic import NODATA, PromptRule, prompts_from_coarse
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts, tile_prompts
from geosam.stretch import Stretch
from geosam.tasks import task
from geosam.tiles import TileGrid, TileGroup, around, group_tiles
from geosam.types import Model, PixelPrompts, Tile
from geosam.windows import blocks_of, read_window

GROUP_PX = 1024
"""Side of a block of output on the model's grid, to the nearest whole tiles."""
LEAST_SIDE = 2
"""Tiles a side that a block has at least, so that large ones too come in batches."""


@dataclass(frozen=True)
class PromptSource:
    """What prompts the model: points and polygons of the scene, a coarse mask, or nothing at all."""

    coarse: xr.DataArray | None = None
    """(y, x) uint8 on the model's grid: 1 water, 0 land, 255 nodata."""
    rule: PromptRule | None = None
    """How points are drawn from the coarse mask, where they are."""
    given: ScenePrompts | None = None
    """Prompts that are there already."""
    dense: bool = True
    """Whether the coarse mask itself is given to the model."""
    boxes: bool = True
    """Whether boxes are given to the model."""
    evidence: xr.DataArray | None = None
    """(y, x) float32 logits that speak for water beside the model, on its grid."""
    unprompted: bool = False
    """Whether every tile is decoded without any prompt, or prompts itself."""


def group_side(grid: TileGrid) -> int:
    """Return how many tiles a side a group has."""
    return max(LEAST_SIDE, round(GROUP_PX / grid.stride))


def segmentation(
    scene: xr.DataArray,
    grid: TileGrid,
    model: Model,
    stretch: Stretch,
    prompts: PromptSource,
    drawn: Mapping[Index, Delayed],
    batch_size: int = 8,
) -> Mosaic:
    """Lay out the segmentation of every tile of a grid, without computing any.

    Parameters
    ----------
    scene
        (band, y, x) float32 on the grid, NaN where nodata.
    grid
        The tiles; their size is the model's.
    model
        Encodes and decodes.
    stretch
        Of the three bands the model sees.
    prompts
        Where prompts come from.
    drawn
        Tasks that give the prompts each group owns, where a coarse mask gives them; see
        :func:`group_prompts`.
    batch_size
        Tiles that go through the encoder at once; a batch never leaves its group.
    """
    composite = blocks_of(scene.sel(band=list(stretch.bands)))
    dense = None if prompts.coarse is None or not prompts.dense else blocks_of(prompts.coarse)
    segment = partial(
        _segment_group,
        overlap=grid.overlap,
        model=model,
        stretch=stretch,
        given=prompts.given,
        unprompted=prompts.unprompted,
        boxes=prompts.boxes,
        batch_size=batch_size,
    )

    def work(group: TileGroup) -> Work:
        inputs = (
            read_window(composite, group.read),
            None if dense is None else read_window(dense, group.read, NODATA),
            [drawn[near] for near in around(group.index) if near in drawn],
        )
        return Work(partial(segment, group=group), inputs)

    return Mosaic(grid, group_tiles(grid, group_side(grid)), work)


def group_prompts(grid: TileGrid, prompts: PromptSource) -> dict[Index, Delayed]:
    """Return tasks that draw the prompts each group owns, where a coarse mask gives them."""
    if prompts.rule is None or prompts.coarse is None:
        return {}
    coarse = blocks_of(prompts.coarse)
    return {
        index: task(_draw, group=group, rule=prompts.rule)(read_window(coarse, group.read, NODATA))
        for index, group in group_tiles(grid, group_side(grid)).items()
    }


def _draw(coarse: np.ndarray, group: TileGroup, rule: PromptRule) -> ScenePrompts:
    return prompts_from_coarse(coarse, group.read, group.tiles, rule)


def _segment_group(
    pixels: np.ndarray,
    coarse: np.ndarray | None,
    drawn: Sequence[ScenePrompts],
    *,
    group: TileGroup,
    model: Model,
    stretch: Stretch,
    given: ScenePrompts | None,
    unprompted: bool,
    boxes: bool,
    batch_size: int,
    overlap: int,
) -> Answer:
    here = (given or merge_prompts(drawn)).within(group.read)
    windows = read_tiles(pixels, group.read, group.tiles)
    asked = [
        _ask(here, tile, _cut_coarse(coarse, group, tile), unprompted, boxes)
        for tile in group.tiles
    ]
    shown = [
        _show(window, tile, stretch) for window, tile in zip(windows, group.tiles, strict=True)
    ]
    masks = segment_tiles(model, shown, asked, batch_size=batch_size)
    skipped = [mask.status == SKIPPED_NO_PROMPT for mask in masks]
    planes = accumulate(group, [mask.logits for mask in masks], skipped, overlap)
    return Answer(planes, tuple(replace(mask, logits=None) for mask in masks))


def _cut_coarse(coarse: np.ndarray | None, group: TileGroup, tile: Tile) -> np.ndarray | None:
    return None if coarse is None else coarse[tile.read.slices(group.read)] == 1


def _ask(
    here: ScenePrompts, tile: Tile, water: np.ndarray | None, unprompted: bool, boxes: bool
) -> list[PixelPrompts]:
    if unprompted:
        return [PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int))]
    return tile_prompts(here, tile, water, boxes=boxes)


def _show(window: np.ndarray, tile: Tile, stretch: Stretch) -> np.ndarray | None:
    """Stretch what the model sees, or return None where the pixels the tile owns have no data."""
    core = window[(..., *tile.core.slices(tile.read))]
    return stretch.apply(window) if np.isfinite(core).any() else None


def probability(logits: da.Array) -> da.Array:
    """Turn blended logits into probabilities; NaN where nothing was decided."""
    return da.map_blocks(_sigmoid, logits, dtype=np.float32)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32)
