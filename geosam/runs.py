"""A run from files to files: nothing under a final name before all of it is complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from shapely import Polygon

from geosam.aoi import blank_inside, blank_outside
from geosam.crew import Crew
from geosam.durable import Durable, Step
from geosam.evidence import EVIDENCE_PX
from geosam.export.cog import as_stored, write_raster
from geosam.export.geopackage import write_geopackage
from geosam.export.quicklook import quicklook
from geosam.grids import geobox_of
from geosam.heap import give_back
from geosam.job import Job, all_prompts, identity, keep_of, open_job, prepare_job
from geosam.kept import Kept
from geosam.loading import load, sized
from geosam.masks import DONE, FAILED
from geosam.options import Options
from geosam.pipeline import SEGMENT, Prepared, segment_prepared
from geosam.probability import mask_of_stored, water_probability
from geosam.prompts.automatic import NODATA
from geosam.prompts.scene_prompts import to_frames
from geosam.raster import preview
from geosam.report import Report
from geosam.resume import settle
from geosam.rivers import has_banks, measure_rivers, no_rivers
from geosam.rivers.scene_edge import footprint
from geosam.stretch import fit_stretch
from geosam.strips import cache_bytes
from geosam.tables import (
    count_tiles,
    run_table,
    tile_layer,
    tile_states,
    tile_table,
    with_faults,
)
from geosam.tiles import group_tiles
from geosam.types import Model
from geosam.vectors import MIN_AREA_PX, islands, outlines
from geosam.views import Looks, pixel_m
from geosam.workers import crew_of
from geosam.workspace import Targets, make_once, publish

COARSER_SIMPLIFY_PX = 0.25
"""Tolerance of outlines, in pixels of the model's grid, where that is coarser than the scene's."""


def run(
    scene: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Model = "river-tiny",
    progress: bool = False,
    **options: Any,
) -> Report:
    """Turn a raster into river outlines: what ``geosam segment`` does.

    Parameters
    ----------
    scene
        A raster, or several of the same bands and CRS.
    output
        The GeoPackage to write.
    model
        A name, a folder, a hub id, or a loaded model.
    progress
        Whether to show bars on standard error.
    **options
        Those of :class:`geosam.options.Options`.

    Raises
    ------
    GeosamError
        If the request or its input is wrong; nothing is written then.

    Examples
    --------
    >>> geosam.run("ortho.tif", "rivers.gpkg").outlines  # doctest: +SKIP
    3
    """
    named = model if isinstance(model, str) else model.name
    chosen = Options.of({**options, "model": named})
    targets = targets_of(output, chosen)
    with open_job(scene, Path(output), targets, chosen, progress) as job:
        with job.clock.time("load model"):
            loaded = load(chosen) if isinstance(model, str) else model
        job = replace(job, options=sized(job.options, loaded))
        settle(job.folder, identity(job, loaded))
        with crew_of(job, loaded) as crew:
            return _run(job, loaded, targets, crew)


def _run(job: Job, model: Model, targets: Targets, crew: Crew) -> Report:
    keep = keep_of(job, crew)
    prepared = prepare_job(job, model, keep)
    prompts = all_prompts(job, prepared, keep)
    states = _segment(job, prepared, keep)
    layers = _vectorise(job, prepared, states)
    layers |= to_frames(prompts, prepared.grid.geobox, own=prepared.prompts.joined)
    layers["runs"] = run_table(job, prepared)
    _write(job, targets, layers, prepared)
    share = _water_share(job.folder / "mask.tif")
    files = publish(job.folder, targets)
    return _report(files, layers["outlines"], states, prepared, share, job)


def targets_of(output: str | Path, options: Options) -> Targets:
    """Return the final names that the options ask for."""
    paths = (options.mask, options.probability, options.quicklook)
    return Targets(Path(output), *(None if path is None else Path(path) for path in paths))


def _segment(job: Job, prepared: Prepared, keep: Durable) -> pd.DataFrame:
    """Segment, write probability and mask into the folder of unfinished work."""
    logits = segment_prepared(prepared, keep)
    unread, _ = job.faults.areas()
    water = partial(_stored, water=water_probability(logits), aoi=job.aoi, unread=list(unread))
    coarser = prepared.grid.geobox.resolution.x / geobox_of(job.views.scene).resolution.x
    margin = int(np.ceil(EVIDENCE_PX * max(1.0, abs(coarser))))
    stored = keep.raster(water, "probability", margin, "scene")
    with job.clock.time("write"):
        _write_rasters(job, stored)
    give_back()
    groups, answers = group_tiles(prepared.grid, prepared.per_side), keep.answers(SEGMENT)
    states = tile_states(
        row
        for index, group in groups.items()
        for row in zip(group.tiles, answers.tiles(index), strict=True)
    )
    return with_faults(states, job.faults, prepared)


def _write_rasters(job: Job, stored: Kept) -> None:
    """Write probability and mask, but for what an interrupted run has written already."""
    threshold = job.options.threshold

    def probability(path: Path) -> None:
        write_raster(stored.lazy(), path, kind="probability", overwrite=True)

    def mask(path: Path) -> None:
        found = mask_of_stored(stored.lazy(), threshold)
        write_raster(found, path, kind="mask", overwrite=True)

    make_once(job.folder / "probability.tif", "all blocks", probability)
    make_once(job.folder / "mask.tif", f"threshold {threshold}", mask)


def _stored(
    looks: Looks, water: Step, aoi: gpd.GeoSeries | None, unread: Sequence[Polygon]
) -> xr.DataArray:
    """Return the probability as it is stored: nodata outside the area of interest, and where the scene could
    not be read.
    """
    known = blank_inside(blank_outside(water(looks), aoi), unread)
    return as_stored(known, "probability")


def _vectorise(job: Job, prepared: Prepared, states: pd.DataFrame) -> dict[str, Any]:
    # Of a large scene most tiles are skipped, and say nothing of outlines.
    rated = tile_table(states[states.status.isin((DONE, FAILED))], prepared)
    with job.clock.time("outlines"):
        rivers = outlines(
            job.folder / "probability.tif", predicted_iou=rated, **_outline_settings(job, prepared)
        )
    layers: dict[str, Any] = {
        "outlines": rivers,
        "islands": islands(rivers),
        "tiles": tile_layer(states, prepared),
    }
    if not job.options.rivers:
        return layers
    with job.clock.time("rivers"):
        return layers | _measure(job, rivers)


def _measure(job: Job, rivers: gpd.GeoDataFrame) -> dict[str, gpd.GeoDataFrame]:
    """Return the layers of rivers; without a bank they are empty, and the outlines stay."""
    path = job.folder / "probability.tif"
    edge = footprint(path)
    if not has_banks(rivers, edge):
        return no_rivers(rivers.crs)
    options = job.options
    return measure_rivers(
        rivers,
        edge=edge,
        pixel_m=pixel_m(geobox_of(job.views.scene)),
        spacing=options.spacing,
        spur=options.spur,
        join_gap=options.join_gap,
        flow=options.flow,
        probability=path,
    )


def _outline_settings(job: Job, prepared: Prepared) -> dict[str, Any]:
    """Defaults follow the coarser of the two grids: the model saw nothing finer."""
    options = job.options
    native, working = (pixel_m(g) for g in (geobox_of(job.views.scene), prepared.grid.geobox))
    smallest = MIN_AREA_PX * max(native, working) ** 2
    smooth = COARSER_SIMPLIFY_PX * working if working > 2 * native else None
    return {
        "threshold": options.threshold,
        "min_area": smallest if options.min_area is None else options.min_area,
        "min_island": smallest if options.min_island is None else options.min_island,
        "simplify": smooth if options.simplify is None else options.simplify,
        "join_gap": options.join_gap,
    }


def _write(job: Job, targets: Targets, layers: dict[str, Any], prepared: Prepared) -> None:
    with job.clock.time("write"):
        write_geopackage(job.folder / "outlines.gpkg", overwrite=True, **layers)
        if targets.quicklook is not None:
            draw_quicklook(job, layers["outlines"])


def draw_quicklook(job: Job, found: gpd.GeoDataFrame, title: str | None = None) -> None:
    """Draw polygons over the preview of the whole scene."""
    wanted = [role for role in ("red", "green", "blue") if role in job.views.roles]
    bands = wanted if len(wanted) == 3 else list(job.views.roles[:3])
    bands = bands if len(bands) == 3 else [bands[0]] * 3
    seen = job.views.preview
    picture = (preview(job.source, whole=True) if "sampled" in seen.attrs else seen).sel(band=bands)
    stretched = picture.copy(data=fit_stretch(seen, bands).apply(picture.values))
    quicklook(stretched, found, job.folder / "quicklook.png", title=title)


def _water_share(path: Path) -> float:
    counts = np.zeros(NODATA + 1, np.int64)
    with rasterio.open(path) as mask, rasterio.Env(GDAL_CACHEMAX=cache_bytes(mask)):
        for _, window in mask.block_windows(1):
            counts += np.bincount(mask.read(1, window=window).ravel(), minlength=NODATA + 1)
    valid = counts.sum() - counts[NODATA]
    return float(counts[1] / valid) if valid else 0.0


def _report(
    files: tuple[str, ...],
    rivers: gpd.GeoDataFrame,
    states: pd.DataFrame,
    prepared: Prepared,
    share: float,
    job: Job,
) -> Report:
    return Report(
        output=files[0],
        files=files,
        notes=(job.source.sentence, *prepared.decision.notes),
        outlines=len(rivers),
        islands=int(rivers.n_islands.sum()),
        water_m2=float(rivers.area_m2.sum()),
        water_share=share,
        resolution_m=pixel_m(prepared.grid.geobox),
        tiles=count_tiles(states),
        seconds=job.clock.seconds(),
    )
