"""Pixels, prompts and a model -> the mosaic of a scene's logits, and their probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geosam.coarse import prompt_logits
from geosam.embeddings import Embeddings
from geosam.joined import keep_asked
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

Seen = tuple[list[np.ndarray | None], list[list[PixelPrompts]]]
"""For each tile what the model sees, as it was read where nothing is asked, None without data; and what the
model is asked."""


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
    doubt: xr.DataArray | None = None
    """(y, x) uint8: the logits that are given in its place; see :func:`geosam.coarse.mask_prompt`."""
    boxes: bool = True
    """Whether boxes are given to the model."""
    unprompted: bool = False
    """Whether every tile is decoded without any prompt, or prompts itself."""
    joined: bool = False
    """Whether only what hangs together with a prompt is meant."""


def group_side(grid: TileGrid) -> int:
    """Return how many tiles a side a group has."""
    return max(LEAST_SIDE, round(GROUP_PX / grid.stride))


def segmentation(
    scene: xr.DataArray,
    grid: TileGrid,
    per_side: int,
    model: Model,
    stretch: Stretch,
    prompts: PromptSource,
    drawn: Mapping[Index, Delayed],
    batch_size: int = 8,
    store: Embeddings | None = None,
) -> Mosaic:
    """Lay out the segmentation of every tile of a grid, without computing any.

    Parameters
    ----------
    scene
        (band, y, x) float32 on the grid, NaN where nodata.
    grid
        The tiles; their size is the model's.
    per_side
        How many a side are a group.
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
    store
        Where features are kept and looked for.
    """
    segment = partial(
        _segment_group, overlap=grid.overlap, batch_size=batch_size, joined=prompts.joined
    )
    work = group_work(scene, segment, model, stretch, prompts, drawn, store)
    return Mosaic(grid, group_tiles(grid, per_side), work)


def group_work(
    scene: xr.DataArray,
    function: Callable[..., Any],
    model: Model,
    stretch: Stretch,
    prompts: PromptSource,
    drawn: Mapping[Index, Delayed],
    store: Embeddings | None = None,
) -> Callable[[TileGroup], Work]:
    """Return what says how a group is worked on: the function on what the model sees of it.

    Parameters
    ----------
    scene, model, stretch, prompts, drawn, store
        As in :func:`segmentation`.
    function
        Takes pixels, coarse mask and prompts of a group, and these settings by name.
    """
    composite = blocks_of(scene.sel(band=list(stretch.bands)))
    soft = prompts.doubt is not None
    shown = prompts.doubt if soft else prompts.coarse
    dense = None if shown is None or not prompts.dense else blocks_of(shown)
    look = partial(
        _look,
        soft=soft,
        stretch=stretch,
        given=prompts.given,
        unprompted=prompts.unprompted,
        boxes=prompts.boxes,
    )

    def work(group: TileGroup) -> Work:
        inputs = (
            read_window(composite, group.read),
            None if dense is None else read_window(dense, group.read, NODATA),
            [drawn[near] for near in around(group.index) if near in drawn],
        )
        return Work(partial(function, look=look, group=group, model=model, store=store), inputs)

    return work


def group_prompts(grid: TileGrid, per_side: int, prompts: PromptSource) -> dict[Index, Delayed]:
    """Return tasks that draw the prompts each group owns, where a coarse mask gives them."""
    if prompts.rule is None or prompts.coarse is None:
        return {}
    coarse = blocks_of(prompts.coarse)
    return {
        index: task(_draw, group=group, rule=prompts.rule)(read_window(coarse, group.read, NODATA))
        for index, group in group_tiles(grid, per_side).items()
    }


def _draw(coarse: np.ndarray, group: TileGroup, rule: PromptRule) -> ScenePrompts:
    return prompts_from_coarse(coarse, group.read, group.tiles, rule)


def _segment_group(
    *inputs: Any,
    look: Callable[..., Seen],
    group: TileGroup,
    model: Model,
    store: Embeddings | None,
    batch_size: int,
    overlap: int,
    joined: bool,
) -> Answer:
    shown, asked = look(*inputs, group=group)
    embed = None if store is None else store.embedder(model, group.tiles)
    masks = segment_tiles(model, shown, asked, batch_size=batch_size, embed=embed)
    skipped = [mask.status == SKIPPED_NO_PROMPT for mask in masks]
    answers = [mask.logits for mask in masks]
    if joined:
        pairs = zip(answers, asked, strict=True)
        answers = [a if a is None else keep_asked(a, prompts) for a, prompts in pairs]
    planes = accumulate(group, answers, skipped, overlap)
    return Answer(planes, tuple(replace(mask, logits=None) for mask in masks))


def encode_group(
    *inputs: Any,
    look: Callable[..., Seen],
    group: TileGroup,
    model: Model,
    store: Embeddings,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Encode the tiles of a group that have data and prompts into the store, and return how many."""
    shown, asked = look(*inputs, group=group)
    embed = store.embedder(model, group.tiles)
    active = [i for i, prompts in enumerate(asked) if prompts and shown[i] is not None]
    for start in range(0, len(active), batch_size):
        batch = active[start : start + batch_size]
        embed(batch, np.stack([p for i in batch if (p := shown[i]) is not None]))
    return {"n": np.array(len(active))}


def _look(
    pixels: np.ndarray,
    coarse: np.ndarray | None,
    drawn: Sequence[ScenePrompts],
    *,
    group: TileGroup,
    soft: bool,
    stretch: Stretch,
    given: ScenePrompts | None,
    unprompted: bool,
    boxes: bool,
) -> Seen:
    """Return what the model sees of each tile of a group, and what it is asked."""
    here = (given or merge_prompts(drawn)).within(group.read)
    windows = read_tiles(pixels, group.read, group.tiles)
    asked = [
        _ask(here, tile, _cut_coarse(coarse, group, tile, soft), unprompted, boxes)
        for tile in group.tiles
    ]
    shown = [
        _show(window, tile, stretch if prompts else None)
        for window, tile, prompts in zip(windows, group.tiles, asked, strict=True)
    ]
    return shown, asked


def _cut_coarse(
    coarse: np.ndarray | None, group: TileGroup, tile: Tile, soft: bool
) -> np.ndarray | None:
    """Return the mask prompt of a tile, bool or, where it is `soft`, float32 logits."""
    if coarse is None:
        return None
    part = coarse[tile.read.slices(group.read)]
    return prompt_logits(part) if soft else part == 1


def _ask(
    here: ScenePrompts, tile: Tile, water: np.ndarray | None, unprompted: bool, boxes: bool
) -> list[PixelPrompts]:
    if unprompted:
        return [PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int))]
    return tile_prompts(here, tile, water, boxes=boxes)


def _show(window: np.ndarray, tile: Tile, stretch: Stretch | None) -> np.ndarray | None:
    """Stretch what the model sees, or return None where the pixels the tile owns have no data."""
    core = window[(..., *tile.core.slices(tile.read))]
    if not np.isfinite(core).any():
        return None
    # In a large scene most tiles are not asked about.
    return window if stretch is None else stretch.apply(window)
