"""Pixels, prompts and a model -> the mosaic of a scene's logits, and their probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import dask.array as da
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
from geosam.windows import blocks_of, read_window, windows_of

GROUP_PX = 1024
"""Side of a block of output on the model's grid, to the nearest whole tiles."""
LEAST_SIDE = 2
"""Tiles a side that a block has at least, so that large ones too come in batches."""


@dataclass(frozen=True)
class Seen:
    """What the model sees of a group of tiles, and what it is asked. Pixels are read when they are asked for:
    in a large scene most groups are asked nothing, and embeddings may be at hand.
    """

    group: TileGroup
    """The tiles."""
    read: Callable[[], np.ndarray]
    """Gives (3, y, x) pixels of the group's read window, NaN where nodata."""
    stretch: Stretch
    """Of these pixels."""
    asked: list[list[PixelPrompts]]
    """What the model is asked about each tile."""
    void: np.ndarray | None = None
    """(y, x) bool: where there is no data, if that is known without reading."""

    @cached_property
    def pixels(self) -> np.ndarray:
        """What `read` gives, read once."""
        return self.read()

    @cached_property
    def empty(self) -> list[bool]:
        """For each tile whether the pixels that it owns have no data."""
        void = ~np.isfinite(self.pixels).any(axis=0) if self.void is None else self.void
        owned = (tile.core.slices(self.group.read) for tile in self.group.tiles)
        return [bool(void[place].all()) for place in owned]

    def show(self, which: Sequence[int]) -> np.ndarray:
        """Return what the model sees of tiles, by number: (n, 3, size, size) float32 in [0, 1]."""
        windows = read_tiles(self.pixels, self.group.read, [self.group.tiles[k] for k in which])
        return np.stack([self.stretch.apply(window) for window in windows])


@dataclass(frozen=True)
class PromptSource:
    """What prompts the model: points and polygons of the scene, a coarse mask, or nothing at all."""

    coarse: da.Array | np.ndarray | None = None
    """(y, x) uint8 on the model's grid, lazy or in memory: 1 water, 0 land, 255 nodata."""
    rule: PromptRule | None = None
    """How points are drawn from the coarse mask, where they are."""
    given: ScenePrompts | None = None
    """Prompts that are there already."""
    dense: bool = True
    """Whether the coarse mask itself is given to the model."""
    doubt: da.Array | np.ndarray | None = None
    """(y, x) uint8, lazy or in memory: the logits that are given in its place; see :func:`geosam.coarse.mask_prompt`."""
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
    see: Callable[[], xr.DataArray],
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
    see
        Gives the scene, (band, y, x) float32 on the grid, NaN where nodata. It is not asked where
        nobody needs pixels.
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
    work = group_work(see, segment, model, stretch, prompts, drawn, store)
    return Mosaic(grid, group_tiles(grid, per_side), work)


def group_work(
    see: Callable[[], xr.DataArray],
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
    see, model, stretch, prompts, drawn, store
        As in :func:`segmentation`.
    function
        Takes what gives the pixels of a group, its coarse mask and prompts, and these settings by name.
    """
    composite = cache(lambda: blocks_of(see().sel(band=list(stretch.bands))))
    coarse, doubt = (
        None if mask is None else windows_of(mask, NODATA)
        for mask in (prompts.coarse, prompts.doubt)
    )
    look = partial(
        _look,
        stretch=stretch,
        given=prompts.given,
        unprompted=prompts.unprompted,
        boxes=prompts.boxes,
        dense=prompts.dense,
    )

    def work(group: TileGroup) -> Work:
        inputs = (
            *(None if m is None else m(group.read) for m in (coarse, doubt)),
            [drawn[near] for near in around(group.index) if near in drawn],
        )
        known = partial(function, look=look, group=group, model=model, store=store)
        return Work(known, inputs, lambda: read_window(composite(), group.read))

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
    seen = look(*inputs, group=group)
    embed = None if store is None else store.embedder(model, group.tiles)
    masks = segment_tiles(
        model, seen.show, seen.empty, seen.asked, batch_size=batch_size, embed=embed
    )
    skipped = [mask.status == SKIPPED_NO_PROMPT for mask in masks]
    answers = [mask.logits for mask in masks]
    if joined:
        pairs = zip(answers, seen.asked, strict=True)
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
    seen = look(*inputs, group=group)
    embed = store.embedder(model, group.tiles)
    active = [i for i, prompts in enumerate(seen.asked) if prompts and not seen.empty[i]]
    for start in range(0, len(active), batch_size):
        embed(active[start : start + batch_size], seen.show)
    return {"n": np.array(len(active))}


def _look(
    read: Callable[[], np.ndarray],
    coarse: np.ndarray | None,
    doubt: np.ndarray | None,
    drawn: Sequence[ScenePrompts],
    *,
    group: TileGroup,
    stretch: Stretch,
    given: ScenePrompts | None,
    unprompted: bool,
    boxes: bool,
    dense: bool,
) -> Seen:
    """Return what the model sees of each tile of a group, and what it is asked."""
    here = (given or merge_prompts(drawn)).within(group.read)
    asked = [
        _ask(
            here,
            tile,
            _mask_prompt(coarse, doubt, group, tile) if dense else None,
            unprompted,
            boxes,
        )
        for tile in group.tiles
    ]
    return Seen(group, read, stretch, asked, None if coarse is None else coarse == NODATA)


def _mask_prompt(
    coarse: np.ndarray | None, doubt: np.ndarray | None, group: TileGroup, tile: Tile
) -> np.ndarray | None:
    """Return the mask prompt of a tile: float32 logits where there is doubt, else bool."""
    place = tile.read.slices(group.read)
    if doubt is not None:
        return prompt_logits(doubt[place])
    return None if coarse is None else coarse[place] == 1


def _ask(
    here: ScenePrompts, tile: Tile, water: np.ndarray | None, unprompted: bool, boxes: bool
) -> list[PixelPrompts]:
    if unprompted:
        return [PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int))]
    return tile_prompts(here, tile, water, boxes=boxes)
