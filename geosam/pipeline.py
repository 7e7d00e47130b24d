"""The order of the steps: scene, coarse mask, prompts, model, probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from odc.geo.geobox import GeoBox

from geosam.anew import Anew, read_part
from geosam.coarse import finish
from geosam.decision import Decision, decide
from geosam.durable import Draw, Durable, Keep, Lazy, Step, Tiling, part_of
from geosam.embeddings import Embeddings, Memory
from geosam.errors import OptionError
from geosam.evidence import EVIDENCE_PX, learned_evidence, water_evidence
from geosam.grids import geobox_of
from geosam.loading import load, self_prompted, sized
from geosam.mosaic import Index, Mosaic, Work
from geosam.objects import Sight, followed_polygons, object_numbers
from geosam.options import Options
from geosam.probability import water_mask, water_probability
from geosam.prompting import COARSE_PX, Prompting, named_prompts, prompt_source
from geosam.prompts.asked import check_asked
from geosam.prompts.meant import with_water_meant
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts
from geosam.prompts.vector import read_prompts
from geosam.segmentation import (
    encode_group,
    group_prompts,
    group_side,
    group_work,
    segmentation,
)
from geosam.stretch import Stretch
from geosam.sure_pixels import windows_around
from geosam.tiles import TileGrid, TileGroup, group_tiles
from geosam.types import Model, Window
from geosam.views import Looks, Views, covering, view_array

HINT_ROUNDS = 3
"""Rounds where the coarse mask is a user's raster and no index helps: each lets a water body grow by about what the
model was trained to restore, and some hints are far too small."""
SEGMENT = "segment"
"""What the answers that the result is made of are kept under."""


@dataclass(frozen=True)
class Prepared:
    """Everything a segmentation needs, before any tile is encoded."""

    views: Views
    """The scene."""
    decision: Decision
    """What was chosen for the whole scene."""
    model: Model
    """The model."""
    grid: TileGrid
    """The tiles on the model's grid."""
    prompts: Prompting
    """Where prompts come from."""
    batch_size: int = 1
    """Tiles that go through the model at once."""
    store: Embeddings | None = None
    """Where embeddings are kept."""

    @property
    def per_side(self) -> int:
        """Tiles a side of a group."""
        return group_side(self.grid)


def segment(
    scene: xr.DataArray, *, model: str | Model = "river-tiny", **options: Any
) -> xr.Dataset:
    """Find the water of a scene, lazily.

    Parameters
    ----------
    scene
        (band, y, x) with role names as ``band`` and a CRS, NaN where nodata; see
        :func:`geosam.open_scene`.
    model
        A name, a folder, a hub id, or a loaded model.
    **options
        Those of :class:`geosam.options.Options` that do not concern files.

    Returns
    -------
    xarray.Dataset
        On the scene's grid: ``probability`` (y, x) float32, NaN where nodata, and ``mask``
        (y, x) uint8: 1 water, 0 land, 255 nodata. Both are Dask arrays. Where the learned network
        speaks, any part of them needs samples of the whole scene; see :mod:`geosam.own_colours`.

    Raises
    ------
    GeosamError
        If an option, the bands or the model do not fit.

    Examples
    --------
    >>> scene = geosam.open_scene("ortho.tif")  # doctest: +SKIP
    >>> geosam.segment(scene).mask.mean().compute()  # doctest: +SKIP
    """
    chosen = Options.of({**options, "model": model if isinstance(model, str) else model.name})
    views = view_array(scene, chosen.resolution)
    keep = Lazy(views)
    prepared = prepare(views, chosen, keep, None if isinstance(model, str) else model)
    logits = segment_prepared(prepared, keep)
    water = water_probability(logits)(views)
    return xr.Dataset({"probability": water, "mask": water_mask(water, chosen.threshold)})


def prepare(
    views: Views,
    options: Options,
    keep: Keep,
    model: Model | None = None,
    decision: Decision | None = None,
    store: Embeddings | None = None,
) -> Prepared:
    """Choose, load the model, lay out the tiles, and find out where prompts come from."""
    decision = decision or decide(views, options)
    model = model or load(options)
    options = sized(options, model)
    if decision.source == "autosam":
        model = self_prompted(model)
    grid = tile_grid(geobox_of(views.working), model, options)
    if decision.source == "vector" and not decision.speaks:
        given = read_prompts(options.prompts, grid.geobox)
        return followed(prepare_own(views, decision, model, grid, given, options, store))
    if decision.source == "text":
        given = named_prompts(views, decision, grid, options)
        named = Prompting(given=given)
        return Prepared(views, decision, model, grid, named, options.batch_size or 1, store)
    prompts = prompt_source(views, decision, options, keep)
    prepared = Prepared(views, decision, model, grid, prompts, options.batch_size or 1, store)
    for k in range(1, _rounds(decision, options)):
        prepared = ask_again(prepared, options, keep, k)
    return prepared


def prepare_own(
    views: Views,
    decision: Decision,
    model: Model,
    grid: TileGrid,
    given: ScenePrompts,
    options: Options,
    store: Embeddings | None = None,
) -> Prepared:
    """Check prompts of a user's own, and add the water that they mean.

    Raises
    ------
    PromptError
        If they contradict one another, or lie where there is no data.
    """
    check_asked(given, partial(read_part, around=views.around, grid=grid.geobox), grid.scene)
    if decision.witness is not None:
        # Little of a scene is asked about, as a rule.
        working = geobox_of(views.working)
        anew = Anew(views.around, working, windows_around(given, working))
        learned = learned_evidence(views, decision, options, anew)
        evidence = partial(water_evidence, decision=decision, learned=learned)
        find = partial(_evidence_in, evidence=evidence, views=views)
        given = with_water_meant(given, find, grid.geobox)
    prompts, batch_size = Prompting(given=given, joined=True), options.batch_size or 1
    return Prepared(views, decision, model, grid, prompts, batch_size, store or Memory())


def _evidence_in(window: Window, evidence: Step, views: Views) -> np.ndarray:
    """Return what speaks for water in a window of the working grid: (height, width) float32 logits."""
    geobox = geobox_of(views.working)
    looks = views.around(part_of(geobox, window, EVIDENCE_PX))
    if looks is None:
        return np.full((window.height, window.width), -np.inf, np.float32)
    water = evidence(looks)
    inside = covering(geobox[window.slices()], geobox_of(water))
    return np.asarray(water[inside.slices()].values)


def followed(prepared: Prepared) -> Prepared:
    """Add polygons of what clicks mean where the model finds it larger than a tile."""
    given, sight = prepared.prompts.given, see(prepared)
    assert given is not None
    parts = [followed_polygons(sight, given, k) for k in object_numbers(given)]
    prompts = replace(prepared.prompts, given=merge_prompts([given, *parts]))
    # What was encoded here is not encoded again; what comes later is not kept in memory.
    store = sight.embeddings
    store = replace(store, grows=False) if isinstance(store, Memory) else store
    return replace(prepared, prompts=prompts, store=store)


def see(prepared: Prepared) -> Sight:
    """Return the model as it looks at single tiles of the scene."""
    stretch, store = prepared.decision.stretch, prepared.store or Memory()
    return Sight(prepared.views.around, prepared.grid, prepared.model, stretch, store)


def draw(prepared: Prepared, keep: Keep, name: str = SEGMENT) -> Draw | None:
    """Return what gives the prompts of each group, where the coarse mask gives them."""
    if prepared.prompts.rule is None or prepared.prompts.coarse is None:
        return None
    drawn = partial(_draw, prompts=prepared.prompts, grid=prepared.grid, per_side=prepared.per_side)
    return keep.prompts(drawn, prepared.grid, prepared.per_side, f"{name}_prompts")


def _draw(
    looks: Looks, prompts: Prompting, grid: TileGrid, per_side: int
) -> Mapping[Index, Delayed]:
    return group_prompts(part_grid(looks, grid), per_side, prompts.of(looks, grid.geobox))


def part_grid(looks: Looks, grid: TileGrid) -> TileGrid:
    """Return those tiles of a scene that touch a part of it."""
    return TileGrid(looks.grid(), grid.size, grid.overlap)


def tile_grid(geobox: GeoBox, model: Model, options: Options) -> TileGrid:
    """Return the tiles of a grid as the model sees them; they share a quarter where not said."""
    overlap = model.size // 4 if options.overlap is None else options.overlap
    return TileGrid(geobox, model.size, overlap)


def _rounds(decision: Decision, options: Options) -> int:
    alone = decision.source == "raster" and decision.index is None
    return options.rounds or (HINT_ROUNDS if alone else 1)


def ask_again(prepared: Prepared, options: Options, keep: Keep, k: int) -> Prepared:
    """Return the next round: the model's k-th answer becomes the coarse mask that prompts it."""
    if prepared.prompts.coarse is None:
        raise OptionError(
            f"--rounds {options.rounds} needs a coarse mask, and --prompts {options.prompts} has none. "
            "Leave --rounds out."
        )
    logits = segment_prepared(prepared, keep, f"round_{k}")
    coarse = keep.raster(partial(_answered, logits=logits), f"coarse_{k}", COARSE_PX)
    return replace(prepared, prompts=replace(prepared.prompts, coarse=coarse, doubt=None))


def _answered(looks: Looks, logits: Step) -> xr.DataArray:
    return finish(logits(looks).data > 0, looks.working)


def segment_prepared(prepared: Prepared, keep: Keep, name: str = SEGMENT) -> Step:
    """Segment all tiles: the step that gives (y, x) float32 logits on the model's grid, with what
    speaks beside the model.
    """
    lay = partial(lay_out, what=tiles_of(prepared, keep, name))
    tiling = Tiling(prepared.grid, prepared.per_side, with_model=True)
    logits = keep.mosaic(lay, tiling, name)
    evidence = prepared.prompts.evidence
    return logits if evidence is None else partial(_with_evidence, logits=logits, evidence=evidence)


def _with_evidence(looks: Looks, logits: Step, evidence: Step) -> xr.DataArray:
    found = logits(looks)
    data = da.asarray(found.data)
    return found.copy(data=data + da.asarray(evidence(looks).data).rechunk(data.chunks))


@dataclass(frozen=True)
class TileWork:
    """What the tiles of any part of a scene are segmented with."""

    grid: TileGrid
    """The tiles of the whole scene."""
    per_side: int
    """Tiles a side of a group."""
    model: Model
    """Encodes and decodes."""
    stretch: Stretch
    """Of what it sees."""
    prompts: Prompting
    """What prompts it."""
    drawn: Draw | None
    """The prompts that each group owns."""
    batch_size: int
    """Tiles that go through the model at once."""
    store: Embeddings | None
    """Where embeddings are kept."""


def tiles_of(prepared: Prepared, keep: Keep, name: str = SEGMENT) -> TileWork:
    """Draw the prompts, and return what the tiles are segmented with."""
    return TileWork(
        prepared.grid,
        prepared.per_side,
        prepared.model,
        prepared.decision.stretch,
        prepared.prompts,
        draw(prepared, keep, name),
        prepared.batch_size,
        prepared.store,
    )


def lay_out(looks: Looks, what: TileWork) -> Mosaic:
    """Return the mosaic of the tiles of a part of the scene, without computing any."""
    return segmentation(
        lambda: looks.working,
        part_grid(looks, what.grid),
        what.per_side,
        what.model,
        what.stretch,
        what.prompts.of(looks, what.grid.geobox),
        {} if what.drawn is None else what.drawn(looks),
        what.batch_size,
        what.store,
    )


def encode_prepared(prepared: Prepared, keep: Durable) -> int:
    """Encode all tiles that have data and prompts into the store, and return how many those are."""
    encode = partial(encode_group, batch_size=prepared.batch_size)
    work = partial(work_on_group, what=tiles_of(prepared, keep), function=encode)
    counts = keep.collect(work, prepared.grid, prepared.per_side, "encode")
    return sum(int(counts.load(index).get("n", 0)) for index in counts.finished())


def work_on_group(
    looks: Looks, group: TileGroup, what: TileWork, function: Callable[..., Any]
) -> Work:
    """Return what calls a function with what the model sees of a group; see :func:`group_work`."""
    part = group_tiles(part_grid(looks, what.grid), what.per_side)
    return group_work(
        lambda: looks.working,
        function,
        what.model,
        what.stretch,
        what.prompts.of(looks, what.grid.geobox),
        {} if what.drawn is None else what.drawn(looks),
        what.store,
    )(part[group.index])
