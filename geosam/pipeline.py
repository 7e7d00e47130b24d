"""The order of the steps: scene, coarse mask, prompts, model, probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.coarse import (
    NETWORK_WEIGHT,
    bounded,
    coarse_from_evidence,
    coarse_from_raster,
    denied,
    finish,
    follow_hint,
    hsv_evidence,
    index_evidence,
    index_logits,
    is_related,
    mean_evidence,
    network_evidence,
    with_companion,
    without_slivers,
)
from geosam.decision import Decision, decide
from geosam.durable import Durable, Keep, Lazy
from geosam.embeddings import Embeddings, Memory
from geosam.errors import OptionError
from geosam.mosaic import Index, Mosaic, work_task
from geosam.objects import Sight, followed_polygons, object_numbers
from geosam.options import Options
from geosam.prompts.asked import check_asked
from geosam.prompts.automatic import PromptRule
from geosam.prompts.from_text import find_phrases, parse_phrases
from geosam.prompts.meant import with_water_meant
from geosam.prompts.scene_prompts import ScenePrompts, dense_mask, merge_prompts
from geosam.prompts.vector import read_prompts
from geosam.raster import open_coarse
from geosam.regrid import onto_scene
from geosam.segmentation import (
    PromptSource,
    encode_group,
    group_prompts,
    group_side,
    group_work,
    probability,
    segmentation,
)
from geosam.stretch import Stretch
from geosam.tiles import TileGrid, group_tiles
from geosam.types import Model, Window
from geosam.views import Views, refine, view_array

HINT_ROUNDS = 3
"""Rounds where the coarse mask is a user's raster and no index helps: each lets a water body grow by about what the
model was trained to restore, and some hints are far too small."""
PROBABILITY_STEPS = 254
"""A probability is stored as a whole number of these."""
LAZY = Lazy()
"""Where there are no files, everything stays one lazy graph."""
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
    prompts: PromptSource
    """Where prompts come from."""
    store: Embeddings | None = None
    """Where embeddings are kept."""


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
        (y, x) uint8: 1 water, 0 land, 255 nodata. Both are Dask arrays.

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
    prepared = prepare(views, chosen, None if isinstance(model, str) else model)
    water = water_probability(prepared, segment_prepared(prepared, chosen.batch_size))
    return xr.Dataset({"probability": water, "mask": water_mask(water, chosen.threshold)})


def prepare(
    views: Views,
    options: Options,
    model: Model | None = None,
    keep: Keep = LAZY,
    decision: Decision | None = None,
    store: Embeddings | None = None,
) -> Prepared:
    """Choose, load the model, lay out the tiles, and find out where prompts come from."""
    decision = decision or decide(views, options)
    model = model or load(options)
    if decision.source == "autosam":
        model = self_prompted(model)
    grid = tile_grid(views.working.odc.geobox, model, options)
    if decision.source == "vector" and not decision.speaks:
        given = read_prompts(options.prompts, grid.geobox)
        return followed(prepare_own(views, decision, model, grid, given, options, keep, store))
    if decision.source == "text":
        given = named_prompts(views, decision, grid, options)
        return Prepared(views, decision, model, grid, PromptSource(given=given), store)
    prompts = prompt_source(views, decision, options, keep)
    prepared = Prepared(views, decision, model, grid, prompts, store)
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
    keep: Keep = LAZY,
    store: Embeddings | None = None,
) -> Prepared:
    """Check prompts of a user's own, and add the water that they mean.

    Raises
    ------
    PromptError
        If they contradict one another, or lie where there is no data.
    """
    check_asked(given, views.working)
    if decision.witness is not None:
        water = water_evidence(views, decision, options, keep)

        def find(window: Window) -> np.ndarray:
            return water[window.slices()].values > 0

        given = with_water_meant(given, find, grid.geobox)
    return Prepared(views, decision, model, grid, PromptSource(given=given), store or Memory())


def named_prompts(
    views: Views, decision: Decision, grid: TileGrid, options: Options
) -> ScenePrompts:
    """Return the boxes of what ``--text`` names, an object each.

    Raises
    ------
    PromptError
        If the detector does not know a phrase, or finds nothing.
    """
    from geosam.models.detectors import COLOUR, load_detector

    stretch = decision.stretch
    if options.detector == COLOUR and "nir" in stretch.bands:
        # An index is of ratios: one factor for all bands.
        stretch = Stretch(stretch.bands, (0.0,) * 3, (max(stretch.high),) * 3)
    detector = load_detector(
        options.detector,
        roles=decision.composite,
        device=options.device,
        precision=options.precision,
    )
    phrases = parse_phrases(options.text or "")
    return find_phrases(views.working, grid, stretch, detector, phrases).as_prompts()


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
    return Sight(prepared.views.working, prepared.grid, prepared.model, stretch, store)


def draw(prepared: Prepared, keep: Keep = LAZY, name: str = SEGMENT) -> Mapping[Index, Delayed]:
    """Return tasks that give the prompts of each group, where the coarse mask gives them."""
    return keep.prompts(group_prompts(prepared.grid, prepared.prompts), f"{name}_prompts")


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
    logits = segment_prepared(prepared, options.batch_size, keep, f"round_{k}")
    coarse = keep.raster(finish(logits > 0, prepared.views.working), f"coarse_{k}")
    return replace(prepared, prompts=replace(prepared.prompts, coarse=coarse))


def load(options: Options) -> Model:
    """Load the model that the options name."""
    from geosam.models.load import load_model

    return load_model(
        options.model,
        device=options.device,
        precision=options.precision,
        tile_size=options.tile_size,
    )


def self_prompted(model: Model) -> Model:
    """Give a model the dense prompt network that lies beside its checkpoint."""
    from geosam.models.autosam import auto_prompted

    return auto_prompted(model)


def prompt_source(views: Views, decision: Decision, options: Options, keep: Keep) -> PromptSource:
    """Return what will prompt the model, and what speaks for water beside it."""
    if decision.source in ("none", "autosam"):
        return PromptSource(unprompted=True)
    evidence = None
    if decision.witness is not None:
        evidence = water_evidence(views, decision, options, keep)
    if decision.source == "vector":
        given = read_prompts(options.prompts, views.working.odc.geobox)
        drawn = on_grid(dense_mask(given, views.working.odc.geobox), views.working.odc.geobox)
        beside = _beside(views, options, decision, keep)
        return PromptSource(given=given, evidence=_weighed(evidence, drawn, decision, beside))
    coarse = keep.raster(_coarse(views, options, decision, evidence), "coarse")
    rule = PromptRule(
        f"{decision.source}/{decision.witness}" if decision.source == "raster" else decision.source,
        options.points,
        options.negatives,
        boxes=options.boxes,
        seed=options.seed,
    )
    return PromptSource(
        coarse=coarse,
        rule=rule,
        dense=options.dense,
        boxes=options.boxes,
        evidence=_weighed(evidence, coarse, decision, _beside(views, options, decision, keep)),
    )


def water_evidence(views: Views, decision: Decision, options: Options, keep: Keep) -> xr.DataArray:
    """Return what speaks for water before the model is asked: (y, x) float32 logits, lazily."""
    if decision.witness == "index":
        return _of_index(views, decision, index_evidence)
    if decision.witness == "hsv":
        assert decision.hsv is not None and decision.rgb_stretch is not None
        return hsv_evidence(views.working, decision.rgb_stretch, decision.hsv)
    learned = learned_evidence(views, decision, options, keep)
    return (
        learned
        if decision.index is None
        else denied(learned, _of_index(views, decision, index_logits))
    )


def _of_index(
    views: Views, decision: Decision, logits: Callable[..., xr.DataArray]
) -> xr.DataArray:
    """Return logits of the scene's own pixels, brought to the model's grid."""
    seen = views.scene if views.is_refined else views.working
    found = logits(seen, decision.index, decision.threshold)
    return refine(found, views.working.odc.geobox) if views.is_refined else found


def learned_evidence(
    views: Views, decision: Decision, options: Options, keep: Keep
) -> xr.DataArray:
    """Return the logits of the learned network, which looks twice: (y, x) float32, lazily."""
    from geosam.models.coarse import COARSE_OVERLAP_PX, COARSE_TILE_PX, load_learned

    network = load_learned(options.device, options.precision)
    fine, wide = (
        network_evidence(
            scene,
            decision.renditions,
            network,
            COARSE_TILE_PX,
            COARSE_OVERLAP_PX,
            partial(keep.mosaic, name=name),
        )
        for scene, name in ((views.working, "learned"), (views.wider, "learned_wider"))
    )
    evidence = mean_evidence(fine, onto_scene(wide, views.working))
    return without_slivers(evidence, views.working)


def _beside(views: Views, options: Options, decision: Decision, keep: Keep) -> xr.DataArray | None:
    """Return what the learned network says where an index prompts."""
    if decision.witness != "index" or not decision.renditions:
        return None
    return learned_evidence(views, decision, options, keep)


def _weighed(
    evidence: xr.DataArray | None,
    coarse: xr.DataArray,
    decision: Decision,
    beside: xr.DataArray | None,
) -> xr.DataArray | None:
    """Return evidence as it is added to the model's logits, without the water that is not meant."""
    if evidence is None or decision.witness == "hsv":
        return None
    if decision.witness == "learned":
        return bounded(evidence, coarse, NETWORK_WEIGHT)
    speaks = bounded(evidence, coarse)
    return speaks if beside is None else with_companion(speaks, beside)


def _coarse(
    views: Views, options: Options, decision: Decision, evidence: xr.DataArray | None
) -> xr.DataArray:
    """Return the coarse mask: what the evidence says, a user's raster, or what the two agree on."""
    if decision.source != "raster":
        assert evidence is not None
        return coarse_from_evidence(evidence, views.working)
    raster = open_coarse(options.prompts, views.working.odc.geobox)
    hint = coarse_from_raster(raster, views.working)
    if evidence is None:
        return hint
    hint, water = dask.compute(hint, coarse_from_evidence(evidence, views.working))
    return follow_hint(hint, water) if is_related(hint, water) else hint.chunk()


def segment_prepared(
    prepared: Prepared, batch_size: int, keep: Keep = LAZY, name: str = SEGMENT
) -> da.Array:
    """Segment all tiles: (y, x) float32 logits on the model's grid, with what speaks beside it."""
    logits = keep.mosaic(lay_out(prepared, batch_size, keep, name), name)
    evidence = prepared.prompts.evidence
    return logits if evidence is None else logits + da.asarray(evidence.data).rechunk(logits.chunks)


def lay_out(prepared: Prepared, batch_size: int, keep: Keep = LAZY, name: str = SEGMENT) -> Mosaic:
    """Return the mosaic of all tiles, with the prompts drawn and nothing else computed."""
    return segmentation(
        prepared.views.working,
        prepared.grid,
        prepared.model,
        prepared.decision.stretch,
        prepared.prompts,
        draw(prepared, keep, name),
        batch_size,
        prepared.store,
    )


def encode_prepared(prepared: Prepared, batch_size: int, keep: Durable) -> int:
    """Encode all tiles that have data and prompts into the store, and return how many those are."""
    work = group_work(
        prepared.views.working,
        partial(encode_group, batch_size=batch_size),
        prepared.model,
        prepared.decision.stretch,
        prepared.prompts,
        draw(prepared, keep),
        prepared.store,
    )
    groups = group_tiles(prepared.grid, group_side(prepared.grid))
    return keep.tally(groups, lambda group: work_task(work(group)), "encode")


def water_probability(prepared: Prepared, logits: da.Array) -> xr.DataArray:
    """Return the probability of water on the scene's own grid, lazily."""
    working = on_grid(probability(logits), prepared.grid.geobox)
    return _rounded(onto_scene(working, prepared.views.scene)).rename("probability")


def _rounded(water: xr.DataArray) -> xr.DataArray:
    """Round to the steps of a probability file, so that a mask is the same from it and from here."""
    return (water * PROBABILITY_STEPS).round() / PROBABILITY_STEPS


def water_mask(water: xr.DataArray, threshold: float) -> xr.DataArray:
    """Return (y, x) uint8: 1 where the probability is above the threshold, 255 where it is NaN."""
    mask = xr.where(water.isnull(), 255, water > threshold).astype("uint8")
    return mask.rename("mask").assign_coords(water.coords)


def on_grid(values: Any, geobox: GeoBox) -> xr.DataArray:
    """Label a (y, x) array with the coordinates of its grid."""
    return xr.DataArray(values, coords=xr_coords(geobox, always_yx=True), dims=("y", "x"))
