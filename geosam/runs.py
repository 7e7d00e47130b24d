"""A run from files to files: nothing under a final name before all of it is complete."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dask
import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
import xarray as xr

from geosam import __version__
from geosam.aoi import blank_outside, part_around, read_aoi
from geosam.clock import Clock
from geosam.crew import Crew, Threads
from geosam.decision import Decision, decide
from geosam.durable import Durable, Step
from geosam.embeddings import EmbeddingStore, open_store, sign
from geosam.export.cog import as_stored, write_raster
from geosam.export.geopackage import write_geopackage
from geosam.export.quicklook import quicklook
from geosam.ground import moved
from geosam.heap import give_back
from geosam.kept import Kept, KeptPrompts
from geosam.ledger import Index
from geosam.masks import FAILED, TileMask
from geosam.models.prompter_files import prompter_at_hand
from geosam.options import Options
from geosam.pipeline import (
    EVIDENCE_PX,
    SEGMENT,
    Prepared,
    draw,
    load,
    mask_of_stored,
    prepare,
    segment_prepared,
    sized,
    tile_grid,
    water_probability,
)
from geosam.progress import SILENT
from geosam.prompts.automatic import NODATA, coarse_polygons
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts, to_frames
from geosam.raster import Faults, Source, Tell, fingerprint, inspect_scene
from geosam.raster.files import CACHE_BYTES
from geosam.resume import describe_run, settle
from geosam.rivers import has_banks, measure_rivers, no_rivers
from geosam.rivers.scene_edge import footprint
from geosam.stretch import fit_stretch
from geosam.tiles import group_tiles, zoom, zoom_factor
from geosam.types import Model, Tile
from geosam.vectors import MIN_AREA_PX, islands, outlines
from geosam.views import Looks, Views, pixel_m, view_source
from geosam.workspace import (
    Targets,
    check_resume,
    check_targets,
    make_once,
    partial_folder,
    publish,
    unfinished,
)

CHUNK_PX = 1024
"""Side of the blocks that scenes are read and written in."""
COARSER_SIMPLIFY_PX = 0.25
"""Tolerance of outlines, in pixels of the model's grid, where that is coarser than the scene's."""
THREADED_TILE_PX = 512
"""Up to this input size tiles run side by side on one thread each; a larger network uses all
threads for one batch, because its activations would not fit several times."""
DEVICE_THREADS = 2
"""Pieces of work at a time for each GPU: one is read or written while the other is computed."""

TileRow = tuple[Tile, TileMask]
"""A tile, and what became of it."""


@dataclass(frozen=True)
class Report:
    """What a run did."""

    output: str
    """The GeoPackage."""
    files: tuple[str, ...]
    """Everything that was written."""
    notes: tuple[str, ...]
    """What was chosen, in sentences."""
    outlines: int
    """Polygons of water."""
    islands: int
    """Holes in them."""
    water_m2: float
    """Area of the outlines on the ground."""
    water_share: float
    """Part of the valid pixels that is water."""
    resolution_m: float
    """Pixel of the grid that the model worked on, on the ground."""
    tiles: dict[str, int]
    """Number of tiles by status."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each step; ``total`` is all of it."""

    @property
    def exit_status(self) -> int:
        """0, or 1 if some tiles failed."""
        return 1 if self.tiles.get("failed") else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """What every step of a run shares."""

    source: Source
    """The scene."""
    views: Views
    """The scene as the steps need it."""
    decision: Decision
    """What was chosen for the whole scene."""
    aoi: gpd.GeoSeries | None
    """Area of interest in the scene's CRS."""
    options: Options
    """What was asked for."""
    folder: Path
    """Unfinished work."""
    faults: Faults
    """What could not be read."""
    started: datetime
    """When it began."""
    clock: Clock
    """Times the steps."""
    show: bool
    """Whether to show progress."""


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
    rows = _segment(job, prepared, keep)
    layers = _vectorise(job, prepared, rows)
    layers |= to_frames(prompts, prepared.grid.geobox)
    layers["runs"] = run_table(job, prepared)
    _write(job, targets, layers, prepared)
    share = _water_share(job.folder / "mask.tif")
    files = publish(job.folder, targets)
    return _report(files, layers, rows, prepared, share, job)


@contextmanager
def open_job(
    scene: str | Path | Sequence[str | Path],
    output: Path,
    targets: Targets,
    options: Options,
    progress: bool,
) -> Iterator[Job]:
    """Check the final names, look at the scene, and make the folder of unfinished work.

    Raises
    ------
    GeosamError
        If the request or the scene is wrong; nothing is written then.
    """
    started, clock = datetime.now(UTC), Clock()
    with clock.time("open"):
        source = inspect_source(as_paths(scene), options)
        others = [str(given) for given in (options.prompts, options.aoi) if given is not None]
        if options.resume:
            check_resume(output)
        partial = unfinished(output) if options.resume else None
        check_targets(targets, [*source.paths, *others], options.overwrite, partial)
        faults = Faults(unfinished(output) / "faults")
        views, aoi = view_scene(source, options, faults.tell)
        # Chosen before the model is loaded, or even fetched: what is wrong here is said at once.
        decision = decide(views, options)
    resume = options.resume if targets.outlines else None
    with partial_folder(output, options.overwrite, resume) as folder:
        yield Job(source, views, decision, aoi, options, folder, faults, started, clock, progress)


def as_paths(scene: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """Return one path or several as a tuple of strings."""
    return tuple(str(path) for path in ([scene] if isinstance(scene, (str, Path)) else scene))


def targets_of(output: str | Path, options: Options) -> Targets:
    """Return the final names that the options ask for."""
    paths = (options.mask, options.probability, options.quicklook)
    return Targets(Path(output), *(None if path is None else Path(path) for path in paths))


def inspect_source(paths: Sequence[str], options: Options) -> Source:
    """Look at a scene with the options that concern it."""
    return inspect_scene(
        list(paths),
        bands=options.bands,
        scale=options.scale,
        offset=options.offset,
        nodata=options.nodata,
        crs=options.crs,
        valid=options.valid,
        frame=options.frame,
        mosaic=options.mosaic,
    )


def view_scene(
    source: Source, options: Options, tell: Tell | None = None
) -> tuple[Views, gpd.GeoSeries | None]:
    """Look at the scene, or the part of it around the area of interest."""
    whole = view_source(source, options.resolution, chunks=CHUNK_PX, tell=tell)
    if options.aoi is None:
        return whole, None
    aoi = read_aoi(options.aoi, source.geobox)
    coarser = pixel_m(whole.working.odc.geobox) / pixel_m(source.geobox)
    part = part_around(aoi, source.geobox, coarser, options.tile_size)
    return view_source(source, options.resolution, part, CHUNK_PX, tell), aoi


@contextmanager
def crew_of(job: Job, model: Model) -> Iterator[Crew]:
    """Find who works on a job: threads, processes of this machine, or a cluster."""
    options = job.options
    if options.scheduler is not None:
        from geosam.cluster import cluster_at

        with (
            cluster_at(options.scheduler, job.folder) as cluster,
            dask.config.set(scheduler="threads"),
        ):
            yield cluster
    elif options.devices or (options.workers or 1) > 1:
        from geosam.cluster import local_workers

        crew = local_workers(*_local_crew(options, model))
        with crew as cluster, dask.config.set(scheduler="threads"):
            yield cluster
    else:
        with shared_threads(options, model) as threads:
            yield threads


def _local_crew(options: Options, model: Model) -> tuple[list[dict[str, str]], int]:
    """Return the environment of each worker process, and how many threads each has."""
    cores = os.cpu_count() or 1
    if options.devices:
        from geosam.models.device import visible_devices

        each = str(max(1, cores // len(options.devices)))
        return [
            {"CUDA_VISIBLE_DEVICES": device, "OMP_NUM_THREADS": each}
            for device in visible_devices(options.devices)
        ], DEVICE_THREADS
    workers = options.workers or 1
    share = max(1, cores // workers)
    threads = _side_by_side(model, share)
    return [{"OMP_NUM_THREADS": str(max(1, share // threads))}] * workers, threads


def _side_by_side(model: Model, cores: int) -> int:
    """Return how many pieces of work are done at a time in a process."""
    device = getattr(getattr(model, "placement", None), "device", None)
    if device is not None and device.type != "cpu":
        return DEVICE_THREADS
    return cores if model.size <= THREADED_TILE_PX else 1


@contextmanager
def shared_threads(options: Options, model: Model) -> Iterator[Crew]:
    """Share the cores between workers and torch for the time of a run, so that they do not fight."""
    import torch

    before = torch.get_num_threads()
    workers = options.workers or _side_by_side(model, before)
    torch.set_num_threads(max(1, before // workers))
    try:
        with dask.config.set(scheduler="threads", num_workers=workers):
            yield Threads(workers)
    finally:
        torch.set_num_threads(before)


def identity(job: Job, model: Model) -> dict[str, Any]:
    """Return what the finished blocks of a run depend on."""
    choices = asdict(replace(job.decision, notes=()))
    if job.decision.source == "autosam":
        beside = prompter_at_hand(job.options.model)
        choices["prompter"] = None if beside is None else beside.signature
    return describe_run(job.options, fingerprint(job.source), model.signature, choices)


def keep_of(job: Job, crew: Crew) -> Durable:
    """Return what keeps the blocks of a run."""
    return Durable(job.folder, crew, job.clock, job.views, job.show)


def prepare_job(job: Job, model: Model, keep: Durable) -> Prepared:
    """Choose and lay out; what later steps read more than once is computed once."""
    # What is wrong with a store is said before anything is computed.
    with job.clock.time("store"):
        store = scene_store(job.source, job.views, job.decision, model, job.options)
    return prepare(job.views, job.options, keep, model, job.decision, store)


def scene_store(
    source: Source, views: Views, decision: Decision, model: Model, options: Options
) -> EmbeddingStore | None:
    """Open the store of the whole scene, whatever part of it is looked at, where one is asked for."""
    if options.store is None:
        return None
    factor = zoom_factor(pixel_m(views.scene.odc.geobox), options.resolution)
    grid = tile_grid(zoom(source.geobox, factor), model, options)
    signature = sign(model, decision.stretch, grid, fingerprint(source))
    return open_store(options.store, model, grid, signature)


def all_prompts(job: Job, prepared: Prepared, keep: Durable) -> ScenePrompts:
    """Return all prompts of the scene, as they will be used."""
    if prepared.prompts.given is not None:
        return prepared.prompts.given
    drawn = draw(prepared, keep)
    if not isinstance(drawn, KeptPrompts):
        return ScenePrompts()
    with job.clock.time("prompts"):
        points = [drawn.load(index) for index in sorted(drawn.ledger.finished())]
        return merge_prompts([*points, *_dense_prompts(prepared, keep)])


def _dense_prompts(prepared: Prepared, keep: Durable) -> Sequence[ScenePrompts]:
    """Return the coarse mask as polygons, cut where its blocks meet."""
    coarse = prepared.prompts.coarse
    if not isinstance(coarse, Kept) or not prepared.prompts.dense:
        return []
    return keep.crew.do(partial(_polygons, coarse=coarse), coarse.blocks.indices(), SILENT)


def _polygons(index: Index, coarse: Kept) -> ScenePrompts:
    window = coarse.blocks.window(index)
    return coarse_polygons(coarse.read(window), window)


def _segment(job: Job, prepared: Prepared, keep: Durable) -> list[TileRow]:
    """Segment, write probability and mask into the folder of unfinished work."""
    logits = segment_prepared(prepared, keep)
    water = partial(_stored, water=water_probability(prepared, logits), aoi=job.aoi)
    coarser = prepared.grid.geobox.resolution.x / job.views.scene.odc.geobox.resolution.x
    margin = int(np.ceil(EVIDENCE_PX * max(1.0, abs(coarser))))
    stored = keep.raster(water, "probability", margin, "scene")
    with job.clock.time("write"):
        _write_rasters(job, stored)
    give_back()
    groups = group_tiles(prepared.grid, prepared.per_side)
    answers = keep.answers(SEGMENT).tiles(groups)
    rows = [
        (tile, mask)
        for index, group in groups.items()
        for tile, mask in zip(group.tiles, answers[index], strict=True)
    ]
    return with_faults(rows, job.faults, prepared)


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


def _stored(looks: Looks, water: Step, aoi: gpd.GeoSeries | None) -> xr.DataArray:
    return as_stored(blank_outside(water(looks), aoi), "probability")


def with_faults(rows: list[TileRow], faults: Faults, prepared: Prepared) -> list[TileRow]:
    """Let the tiles fail that own pixels which could not be read."""
    areas, reasons = faults.areas()
    if not reasons:
        return rows
    pixel = abs(prepared.grid.geobox.affine.a)
    tree = shapely.STRtree(shapely.buffer(areas, -pixel / 100, join_style="mitre"))
    owners, told = tree.query(_boxes(rows, prepared), predicate="intersects")
    failed = {
        int(owner): TileMask(FAILED, error=reasons[k])
        for owner, k in zip(owners, told, strict=True)
    }
    return [(tile, failed.get(n, mask)) for n, (tile, mask) in enumerate(rows)]


def _vectorise(job: Job, prepared: Prepared, rows: list[TileRow]) -> dict[str, gpd.GeoDataFrame]:
    tiles = tile_table(rows, prepared)
    with job.clock.time("outlines"):
        rivers = outlines(
            job.folder / "probability.tif", predicted_iou=tiles, **_outline_settings(job, prepared)
        )
    layers = {
        "outlines": rivers,
        "islands": islands(rivers),
        "tiles": tiles.drop(columns="predicted_iou"),
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
        pixel_m=pixel_m(job.views.scene.odc.geobox),
        spacing=options.spacing,
        spur=options.spur,
        join_gap=options.join_gap,
        flow=options.flow,
        probability=path,
    )


def _outline_settings(job: Job, prepared: Prepared) -> dict[str, Any]:
    """Defaults follow the coarser of the two grids: the model saw nothing finer."""
    options = job.options
    native, working = (pixel_m(g) for g in (job.views.scene.odc.geobox, prepared.grid.geobox))
    smallest = MIN_AREA_PX * max(native, working) ** 2
    smooth = COARSER_SIMPLIFY_PX * working if working > 2 * native else None
    return {
        "threshold": options.threshold,
        "min_area": smallest if options.min_area is None else options.min_area,
        "min_island": smallest if options.min_island is None else options.min_island,
        "simplify": smooth if options.simplify is None else options.simplify,
        "join_gap": options.join_gap,
    }


def tile_table(rows: list[TileRow], prepared: Prepared) -> gpd.GeoDataFrame:
    """Return the layer ``tiles``, with the predicted IoU of each as one column more."""
    return gpd.GeoDataFrame(
        {
            "tile": [tile.name for tile, _ in rows],
            "status": [mask.status for _, mask in rows],
            "seconds": [round(mask.seconds, 4) for _, mask in rows],
            "error": [mask.error for _, mask in rows],
            "predicted_iou": [mask.predicted_iou for _, mask in rows],
        },
        geometry=_boxes(rows, prepared),
        crs=str(prepared.grid.geobox.crs),
    )


def _boxes(rows: Sequence[TileRow], prepared: Prepared) -> np.ndarray:
    """Return what each tile owns of the scene, as polygons in its CRS."""
    scene = prepared.grid.scene
    cores = [tile.core.intersection(scene) for tile, _ in rows]
    corners = np.array([[c.col, c.row, c.col_end, c.row_end] for c in cores if c is not None])
    return moved(shapely.box(*corners.reshape(-1, 4).T), prepared.grid.geobox.affine)


def run_table(
    job: Job, prepared: Prepared, command: str = "segment", more: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Return the row of the layer ``runs``, with parameters beyond the options in `more`."""
    decision = prepared.decision
    row = {
        "geosam_version": __version__,
        "command": command,
        "scene": ", ".join(job.source.paths),
        "scene_fingerprint": fingerprint(job.source),
        "bands": ", ".join(job.views.roles),
        "stretch": json.dumps(decision.stretch.to_dict()),
        "model": prepared.model.name,
        "model_sha256": prepared.model.signature,
        "prompts": decision.source,
        "parameters": json.dumps(
            {**job.options.to_dict(), **(more or {}), "notes": decision.notes}, default=str
        ),
        "started": job.started.isoformat(timespec="seconds"),
        "seconds": job.clock.seconds()["total"],
    }
    return pd.DataFrame([row])


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
    picture = job.views.preview.sel(band=bands)
    stretched = picture.copy(data=fit_stretch(job.views.preview, bands).apply(picture.values))
    quicklook(stretched, found, job.folder / "quicklook.png", title=title)


def _water_share(path: Path) -> float:
    counts = np.zeros(NODATA + 1, np.int64)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(path) as mask:
        for _, window in mask.block_windows(1):
            counts += np.bincount(mask.read(1, window=window).ravel(), minlength=NODATA + 1)
    valid = counts.sum() - counts[NODATA]
    return float(counts[1] / valid) if valid else 0.0


def _report(
    files: tuple[str, ...],
    layers: dict[str, Any],
    rows: list[TileRow],
    prepared: Prepared,
    share: float,
    job: Job,
) -> Report:
    return Report(
        output=files[0],
        files=files,
        notes=(job.source.sentence, *prepared.decision.notes),
        outlines=len(layers["outlines"]),
        islands=len(layers["islands"]),
        water_m2=float(layers["outlines"].area_m2.sum()),
        water_share=share,
        resolution_m=pixel_m(prepared.grid.geobox),
        tiles=dict(Counter(mask.status for _, mask in rows)),
        seconds=job.clock.seconds(),
    )
