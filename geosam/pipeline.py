"""The order of the steps: scene, coarse mask, prompts, model, probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.coarse import (
    coarse_from_hsv,
    coarse_from_index,
    coarse_from_network,
    coarse_from_raster,
)
from geosam.decision import Decision, decide
from geosam.options import Options
from geosam.prompts.automatic import PromptRule
from geosam.prompts.vector import read_prompts
from geosam.raster import open_coarse
from geosam.regrid import onto_scene
from geosam.segmentation import PromptSource, Segmentation, probability, segment_groups
from geosam.tiles import TileGrid
from geosam.types import Model
from geosam.views import Views, view_array

PROBABILITY_STEPS = 254
"""A probability is stored as a whole number of these."""

Materialise = Callable[[xr.DataArray], xr.DataArray]
"""Takes a lazy coarse mask and returns the same, computed once (a file, an array) or still lazy."""


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
    chosen = Options.of({**options, **({"model": model} if isinstance(model, str) else {})})
    views = view_array(scene, chosen.resolution)
    prepared = prepare(views, chosen, None if isinstance(model, str) else model)
    water = water_probability(prepared, segment_prepared(prepared, chosen.batch_size))
    return xr.Dataset({"probability": water, "mask": water_mask(water, chosen.threshold)})


def prepare(
    views: Views,
    options: Options,
    model: Model | None = None,
    materialise: Materialise | None = None,
    decision: Decision | None = None,
) -> Prepared:
    """Choose, load the model, lay out the tiles, and find out where prompts come from."""
    decision = decision or decide(views, options)
    model = model or load(options)
    overlap = model.size // 4 if options.overlap is None else options.overlap
    grid = TileGrid(views.working.odc.geobox, model.size, overlap)
    prompts = prompt_source(views, decision, options, materialise)
    return Prepared(views, decision, model, grid, prompts)


def load(options: Options) -> Model:
    """Load the model that the options name."""
    from geosam.models.load import load_model

    return load_model(
        options.model,
        device=options.device,
        precision=options.precision,
        tile_size=options.tile_size,
    )


def prompt_source(
    views: Views, decision: Decision, options: Options, materialise: Materialise | None = None
) -> PromptSource:
    """Return what will prompt the model."""
    if decision.source == "none":
        return PromptSource(unprompted=True)
    if decision.source == "vector":
        given = read_prompts(options.prompts, views.working.odc.geobox)
        return PromptSource(given=given)
    coarse = coarse_mask(views, decision, options)
    if materialise is not None:
        coarse = materialise(coarse)
    rule = PromptRule(
        decision.source, options.points, options.negatives, boxes=options.boxes, seed=options.seed
    )
    return PromptSource(coarse=coarse, rule=rule, dense=options.dense, boxes=options.boxes)


def coarse_mask(views: Views, decision: Decision, options: Options) -> xr.DataArray:
    """Return the coarse mask on the model's grid, lazily: (y, x) uint8, 255 where nodata."""
    if decision.index is not None and decision.threshold is not None:
        return coarse_from_index(views.working, decision.index, decision.threshold)
    if decision.source == "raster":
        raster = open_coarse(options.prompts, views.working.odc.geobox)
        return coarse_from_raster(raster, views.working)
    assert decision.rgb_stretch is not None
    if decision.source == "hsv":
        assert decision.hsv is not None
        return coarse_from_hsv(views.working, decision.rgb_stretch, decision.hsv)
    return _learned_coarse(views, decision, options)


def _learned_coarse(views: Views, decision: Decision, options: Options) -> xr.DataArray:
    from geosam.models.coarse import COARSE_OVERLAP_PX, COARSE_TILE_PX, load_learned

    assert decision.rgb_stretch is not None
    network = load_learned(options.device, options.precision)
    return coarse_from_network(
        views.working, decision.rgb_stretch, network, COARSE_TILE_PX, COARSE_OVERLAP_PX
    )


def segment_prepared(prepared: Prepared, batch_size: int) -> Segmentation:
    """Segment all tiles, lazily."""
    return segment_groups(
        prepared.views.working,
        prepared.grid,
        prepared.model,
        prepared.decision.stretch,
        prepared.prompts,
        batch_size,
    )


def water_probability(prepared: Prepared, segmentation: Segmentation) -> xr.DataArray:
    """Return the probability of water on the scene's own grid, lazily."""
    working = on_grid(probability(segmentation.logits), prepared.grid.geobox)
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
    return xr.DataArray(values, coords=xr_coords(geobox), dims=geobox.dimensions)
