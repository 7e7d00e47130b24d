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

from geosam.coarse import (
    EDGE_PX,
    MIN_COMPONENT_PX,
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
    network_mosaic,
    with_companion,
    without_slivers,
)
from geosam.decision import Decision, decide
from geosam.durable import Draw, Durable, Keep, Lazy, Step, part_of
from geosam.embeddings import Embeddings, Memory
from geosam.errors import OptionError
from geosam.kept import on_grid
from geosam.mosaic import Index, Mosaic, Work
from geosam.objects import Sight, followed_polygons, object_numbers
from geosam.options import Options
from geosam.prompts.asked import check_asked
from geosam.prompts.automatic import PromptRule
from geosam.prompts.from_text import find_phrases, parse_phrases
from geosam.prompts.meant import with_water_meant
from geosam.prompts.scene_prompts import ScenePrompts, dense_mask, merge_prompts
from geosam.prompts.vector import read_prompts
from geosam.raster import check_coarse, read_coarse
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
from geosam.tiles import TileGrid, TileGroup, group_tiles
from geosam.types import CoarseNetwork, Model, Window
from geosam.views import Looks, Views, covering, refine, view_array

HINT_ROUNDS = 3
"""Rounds where the coarse mask is a user's raster and no index helps: each lets a water body grow by about what the
model was trained to restore, and some hints are far too small."""
PROBABILITY_STEPS = 254
"""A probability is stored as a whole number of these."""
SEGMENT = "segment"
"""What the answers that the result is made of are kept under."""
EVIDENCE_PX = 2 * EDGE_PX + 4
"""Pixels of the working grid around it that evidence depends on: slivers along nodata, and what is
interpolated from the wider grid."""
COARSE_PX = EVIDENCE_PX + MIN_COMPONENT_PX
"""The same of a coarse mask."""
NETWORK_GROUP = 2
"""Tiles a side that go through the learned network together."""


@dataclass(frozen=True)
class Prompting:
    """What prompts the model, for any part of the scene; see :class:`PromptSource`."""

    coarse: Step | None = None
    """Gives the coarse mask."""
    rule: PromptRule | None = None
    """How points are drawn from it."""
    given: ScenePrompts | None = None
    """Prompts that are there already, on the working grid of the scene."""
    dense: bool = True
    """Whether the coarse mask itself is given to the model."""
    boxes: bool = True
    """Whether boxes are given to the model."""
    evidence: Step | None = None
    """Gives the logits that speak for water beside the model."""
    unprompted: bool = False
    """Whether every tile is decoded without any prompt, or prompts itself."""

    def of(self, looks: Looks, grid: GeoBox) -> PromptSource:
        """Return what prompts the model in a part of a scene, whose working grid is `grid`."""
        given = self.given
        if given is not None:
            window = covering(looks.working.odc.geobox, grid)
            given = given.within(window).moved(-window.col, -window.row)
        coarse = None if self.coarse is None else self.coarse(looks)
        return PromptSource(
            coarse, self.rule, given, self.dense, self.boxes, unprompted=self.unprompted
        )


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
    keep = Lazy(views)
    prepared = prepare(views, chosen, keep, None if isinstance(model, str) else model)
    logits = segment_prepared(prepared, keep)
    water = water_probability(prepared, logits)(views)
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
    grid = tile_grid(views.working.odc.geobox, model, options)
    if decision.source == "vector" and not decision.speaks:
        given = read_prompts(options.prompts, grid.geobox)
        return followed(prepare_own(views, decision, model, grid, given, options, keep, store))
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
    keep: Keep,
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
        asked = decision.witness == "learned"
        learned = learned_evidence(views, decision, options, keep) if asked else None
        evidence = partial(water_evidence, decision=decision, learned=learned)
        find = partial(_evidence_in, evidence=evidence, views=views)
        given = with_water_meant(given, find, grid.geobox)
    prompts, batch_size = Prompting(given=given), options.batch_size or 1
    return Prepared(views, decision, model, grid, prompts, batch_size, store or Memory())


def _evidence_in(window: Window, evidence: Step, views: Views) -> np.ndarray:
    """Return what speaks for water in a window of the working grid: (height, width) float32 logits."""
    geobox = views.working.odc.geobox
    looks = views.around(part_of(geobox, window, EVIDENCE_PX))
    if looks is None:
        return np.full((window.height, window.width), -np.inf, np.float32)
    water = evidence(looks)
    inside = covering(geobox[window.slices()], water.odc.geobox)
    return np.asarray(water[inside.slices()].values)


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
    return TileGrid(looks.working.odc.geobox, grid.size, grid.overlap)


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
    return replace(prepared, prompts=replace(prepared.prompts, coarse=coarse))


def _answered(looks: Looks, logits: Step) -> xr.DataArray:
    return finish(logits(looks).data > 0, looks.working)


def load(options: Options) -> Model:
    """Load the model that the options name, here and wherever it is sent."""
    from geosam.models.load import load_model
    from geosam.models.resident import resident

    arguments = {"name": options.model, **_placement(options), "tile_size": options.tile_size}
    return resident(load_model, arguments)


def sized(options: Options, model: Model) -> Options:
    """Return options that say how many tiles go through the model at once."""
    from geosam.models.memory import batch_size_for

    if options.batch_size is not None:
        return options
    return replace(options, batch_size=batch_size_for(model))


def load_network(options: Options) -> CoarseNetwork:
    """Load the learned network, here and wherever it is sent."""
    from geosam.models.coarse import load_learned
    from geosam.models.resident import resident

    # Part of the package: a plan looks at several places with the same one.
    return resident(load_learned, _placement(options), token="shipped")


def _placement(options: Options) -> dict[str, str]:
    # Each worker of several devices sees one of them alone.
    return {
        "device": options.device.split(":")[0] if options.devices else options.device,
        "precision": options.precision,
    }


def self_prompted(model: Model) -> Model:
    """Give a model the dense prompt network that lies beside its checkpoint."""
    from geosam.models.autosam import auto_prompted
    from geosam.models.resident import Resident, resident

    if isinstance(model, Resident):
        return resident(_load_self_prompted, dict(model.arguments))
    return auto_prompted(model)


def _load_self_prompted(**arguments: Any) -> Model:
    from geosam.models.autosam import auto_prompted
    from geosam.models.load import load_model

    return auto_prompted(load_model(**arguments))


def prompt_source(views: Views, decision: Decision, options: Options, keep: Keep) -> Prompting:
    """Return what will prompt the model, and what speaks for water beside it."""
    if decision.source in ("none", "autosam"):
        return Prompting(unprompted=True)
    learned = learned_evidence(views, decision, options, keep)
    evidence = None
    if decision.witness is not None:
        evidence = partial(water_evidence, decision=decision, learned=learned)
    if decision.source == "vector":
        given = read_prompts(options.prompts, views.working.odc.geobox)
        drawn = partial(_burned, given=given, grid=views.working.odc.geobox)
        return Prompting(given=given, evidence=_weighed(evidence, drawn, decision, learned))
    coarse = _coarse(views, options, decision, evidence, keep)
    return Prompting(
        coarse=coarse,
        rule=_rule(decision, options),
        dense=options.dense,
        boxes=options.boxes,
        evidence=_weighed(evidence, coarse, decision, learned),
    )


def _rule(decision: Decision, options: Options) -> PromptRule:
    source = decision.source
    return PromptRule(
        f"{source}/{decision.witness}" if source == "raster" else source,
        options.points,
        options.negatives,
        boxes=options.boxes,
        seed=options.seed,
    )


def _burned(looks: Looks, given: ScenePrompts, grid: GeoBox) -> xr.DataArray:
    """Return the polygons of prompts as a coarse mask."""
    box = looks.working.odc.geobox
    corner = covering(box, grid)
    return on_grid(dense_mask(given.moved(-corner.col, -corner.row), box), box)


def water_evidence(looks: Looks, decision: Decision, learned: Step | None) -> xr.DataArray:
    """Return what speaks for water before the model is asked: (y, x) float32 logits, lazily."""
    if decision.witness == "index":
        return _of_index(looks, decision, index_evidence)
    if decision.witness == "hsv":
        assert decision.hsv is not None and decision.rgb_stretch is not None
        return hsv_evidence(looks.working, decision.rgb_stretch, decision.hsv)
    assert learned is not None
    found = learned(looks)
    if decision.index is None:
        return found
    return denied(found, _of_index(looks, decision, index_logits))


def _of_index(
    looks: Looks, decision: Decision, logits: Callable[..., xr.DataArray]
) -> xr.DataArray:
    """Return logits of the scene's own pixels, brought to the model's grid."""
    seen = looks.scene if looks.is_refined else looks.working
    found = logits(seen, decision.index, decision.threshold)
    return refine(found, looks.working.odc.geobox) if looks.is_refined else found


def learned_evidence(views: Views, decision: Decision, options: Options, keep: Keep) -> Step | None:
    """Return the step that gives the logits of the learned network, which looks twice, where it is
    asked.
    """
    beside = decision.witness == "index" and decision.renditions
    if decision.witness != "learned" and not beside:
        return None
    network = load_network(options)
    fine, wide = (
        keep.mosaic(
            partial(_asked_network, on=on, decision=decision, network=network),
            _network_grid(getattr(views, on)), NETWORK_GROUP, name, on,
        )
        for on, name in (("working", "learned"), ("wider", "learned_wider"))
    )  # fmt: skip
    return partial(_both_looks, fine=fine, wide=wide)


def _network_grid(scene: xr.DataArray) -> TileGrid:
    from geosam.models.coarse import COARSE_OVERLAP_PX, COARSE_TILE_PX

    return TileGrid(scene.odc.geobox, COARSE_TILE_PX, COARSE_OVERLAP_PX)


def _asked_network(looks: Looks, on: str, decision: Decision, network: CoarseNetwork) -> Mosaic:
    scene = getattr(looks, on)
    return network_mosaic(scene, decision.renditions, network, _network_grid(scene), NETWORK_GROUP)


def _both_looks(looks: Looks, fine: Step, wide: Step) -> xr.DataArray:
    evidence = mean_evidence(fine(looks), onto_scene(wide(looks), looks.working))
    return without_slivers(evidence, looks.working)


def _weighed(
    evidence: Step | None, coarse: Step, decision: Decision, learned: Step | None
) -> Step | None:
    """Return evidence as it is added to the model's logits, without the water that is not meant."""
    if evidence is None or decision.witness == "hsv":
        return None
    return partial(_spoken, evidence=evidence, coarse=coarse, decision=decision, learned=learned)


def _spoken(
    looks: Looks, evidence: Step, coarse: Step, decision: Decision, learned: Step | None
) -> xr.DataArray:
    if decision.witness == "learned":
        return bounded(evidence(looks), coarse(looks), NETWORK_WEIGHT)
    speaks = bounded(evidence(looks), coarse(looks))
    return speaks if learned is None else with_companion(speaks, learned(looks))


def _coarse(
    views: Views, options: Options, decision: Decision, evidence: Step | None, keep: Keep
) -> Step:
    """Return the coarse mask: what the evidence says, a user's raster, or what the two agree on."""
    if decision.source != "raster":
        assert evidence is not None
        return keep.raster(partial(_of_evidence, evidence=evidence), "coarse", COARSE_PX)
    check_coarse(options.prompts, views.working.odc.geobox)
    hinted = partial(_hint, path=options.prompts)
    if evidence is None:
        return keep.raster(hinted, "coarse")
    rasters = (
        keep.raster(hinted, "hint"),
        keep.raster(partial(_of_evidence, evidence=evidence), "evident", COARSE_PX),
    )
    # Which water a hint means is a question of whole water bodies: here both are held in memory.
    hint, water = dask.compute(*(raster(views) for raster in rasters))
    return keep.hold(follow_hint(hint, water) if is_related(hint, water) else hint, "coarse")


def _hint(looks: Looks, path: str) -> xr.DataArray:
    return coarse_from_raster(read_coarse(path, looks.working.odc.geobox), looks.working)


def _of_evidence(looks: Looks, evidence: Step) -> xr.DataArray:
    return coarse_from_evidence(evidence(looks), looks.working)


def segment_prepared(prepared: Prepared, keep: Keep, name: str = SEGMENT) -> Step:
    """Segment all tiles: the step that gives (y, x) float32 logits on the model's grid, with what
    speaks beside the model.
    """
    lay = partial(lay_out, what=tiles_of(prepared, keep, name))
    logits = keep.mosaic(lay, prepared.grid, prepared.per_side, name)
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
        looks.working,
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
        looks.working,
        function,
        what.model,
        what.stretch,
        what.prompts.of(looks, what.grid.geobox),
        {} if what.drawn is None else what.drawn(looks),
        what.store,
    )(part[group.index])


def water_probability(prepared: Prepared, logits: Step) -> Step:
    """Return the step that gives the probability of water on the scene's own grid."""
    return partial(_probability, logits=logits)


def _probability(looks: Looks, logits: Step) -> xr.DataArray:
    found = logits(looks)
    working = found.copy(data=probability(da.asarray(found.data)))
    return _rounded(onto_scene(working, looks.scene)).rename("probability")


def _rounded(water: xr.DataArray) -> xr.DataArray:
    """Round to the steps of a probability file, so that a mask is the same from it and from here."""
    return (water * PROBABILITY_STEPS).round() / PROBABILITY_STEPS


def water_mask(water: xr.DataArray, threshold: float) -> xr.DataArray:
    """Return (y, x) uint8: 1 where the probability is above the threshold, 255 where it is NaN."""
    mask = xr.where(water.isnull(), 255, water > threshold).astype("uint8")
    return mask.rename("mask").assign_coords(water.coords)


def mask_of_stored(stored: xr.DataArray, threshold: float) -> xr.DataArray:
    """Return the mask of a probability as it is stored, value / 254 and 255 where nodata, lazily."""
    levels = np.arange(256, dtype=np.float32) * np.float32(1 / PROBABILITY_STEPS)
    table = (levels > threshold).astype(np.uint8)
    table[255] = 255
    return stored.copy(data=da.map_blocks(table.__getitem__, stored.data, dtype=np.uint8))
