"""A run from files to files: nothing under a final name before all of it is complete."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely

from geosam import __version__
from geosam.aoi import blank_outside, part_around, read_aoi
from geosam.clock import Clock
from geosam.crew import Crew, Threads
from geosam.decision import Decision, decide
from geosam.durable import Durable, Keep
from geosam.embeddings import EmbeddingStore, open_store, sign
from geosam.export.cog import as_stored, write_raster
from geosam.export.geopackage import write_geopackage
from geosam.export.quicklook import quicklook
from geosam.ground import moved
from geosam.masks import FAILED, TileMask
from geosam.options import Options
from geosam.pipeline import (
    SEGMENT,
    Prepared,
    draw,
    load,
    prepare,
    segment_prepared,
    tile_grid,
    water_mask,
    water_probability,
)
from geosam.prompts.automatic import NODATA, coarse_polygons
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts, to_frames
from geosam.raster import Faults, Source, Tell, fingerprint, inspect_scene
from geosam.results import open_result
from geosam.resume import describe_run, settle
from geosam.rivers import has_banks, measure_rivers, no_rivers
from geosam.rivers.scene_edge import footprint
from geosam.segmentation import group_side
from geosam.stretch import fit_stretch
from geosam.tasks import task
from geosam.tiles import group_tiles, zoom, zoom_factor
from geosam.types import Model, Tile
from geosam.vectors import MIN_AREA_PX, islands, outlines
from geosam.views import Views, pixel_m, view_source
from geosam.windows import blocks_of
from geosam.workspace import (
    Targets,
    check_resume,
    check_targets,
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
        settle(job.folder, identity(job, loaded))
        with shared_threads(chosen, loaded) as crew:
            return _run(job, loaded, targets, crew)


def _run(job: Job, model: Model, targets: Targets, crew: Crew) -> Report:
    keep = Durable(job.folder, crew, job.clock, job.show)
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
def shared_threads(options: Options, model: Model) -> Iterator[Crew]:
    """Share the cores between workers and torch for the time of a run, so that they do not fight."""
    import torch

    before = torch.get_num_threads()
    side_by_side = model.size <= THREADED_TILE_PX and options.device in ("auto", "cpu")
    workers = options.workers or (before if side_by_side else 1)
    torch.set_num_threads(max(1, before // workers))
    try:
        with dask.config.set(scheduler="threads", num_workers=workers):
            yield Threads(workers)
    finally:
        torch.set_num_threads(before)


def identity(job: Job, model: Model) -> dict[str, Any]:
    """Return what the finished blocks of a run depend on."""
    choices = asdict(replace(job.decision, notes=()))
    return describe_run(job.options, fingerprint(job.source), model.signature, choices)


def prepare_job(job: Job, model: Model, keep: Keep) -> Prepared:
    """Choose and lay out; what later steps read more than once is computed once."""
    # What is wrong with a store is said before anything is computed.
    store = None if job.options.store is None else _open_store(job, model, job.options.store)
    prepared = prepare(job.views, job.options, model, keep, job.decision)
    return replace(prepared, store=store)


def _open_store(job: Job, model: Model, folder: str | Path) -> EmbeddingStore:
    """Open the store of the whole scene, whatever part of it is looked at."""
    factor = zoom_factor(pixel_m(job.views.scene.odc.geobox), job.options.resolution)
    grid = tile_grid(zoom(job.source.geobox, factor), model, job.options)
    signature = sign(model, job.decision.stretch, grid, fingerprint(job.source))
    with job.clock.time("store"):
        return open_store(folder, model, grid, signature)


def all_prompts(job: Job, prepared: Prepared, keep: Keep) -> ScenePrompts:
    """Return all prompts of the scene, as they will be used."""
    if prepared.prompts.given is not None:
        return prepared.prompts.given
    with job.clock.time("prompts"):
        drawn = dask.compute(*draw(prepared, keep).values())
        return merge_prompts([*drawn, *_dense_prompts(prepared)])


def _dense_prompts(prepared: Prepared) -> Sequence[ScenePrompts]:
    """Return the coarse mask as polygons, cut where its blocks meet."""
    coarse = prepared.prompts.coarse
    if coarse is None or not prepared.prompts.dense:
        return []
    blocks = blocks_of(coarse)
    parts = [
        task(coarse_polygons, origin=blocks.window(i, j))(blocks.tasks[i, j])
        for i, j in np.ndindex(blocks.tasks.shape)
    ]
    return dask.compute(*parts)


def _segment(job: Job, prepared: Prepared, keep: Durable) -> list[TileRow]:
    """Segment, write probability and mask into the folder of unfinished work."""
    logits = segment_prepared(prepared, job.options.batch_size, keep)
    water = blank_outside(water_probability(prepared, logits), job.aoi)
    stored = keep.raster(as_stored(water, "probability"), "probability")
    path = job.folder / "probability.tif"
    with job.clock.time("write"):
        write_raster(stored, path, kind="probability", overwrite=True)
        mask = water_mask(open_result(path, chunks=CHUNK_PX), job.options.threshold)
        write_raster(mask, job.folder / "mask.tif", kind="mask", overwrite=True)
    groups = group_tiles(prepared.grid, group_side(prepared.grid))
    answers = keep.answers(SEGMENT).tiles(groups)
    rows = [
        (tile, mask)
        for index, group in groups.items()
        for tile, mask in zip(group.tiles, answers[index], strict=True)
    ]
    return _with_faults(rows, job.faults, prepared)


def _with_faults(rows: list[TileRow], faults: Faults, prepared: Prepared) -> list[TileRow]:
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
    tiles = _tile_table(rows, prepared)
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


def _tile_table(rows: list[TileRow], prepared: Prepared) -> gpd.GeoDataFrame:
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


def run_table(job: Job, prepared: Prepared, command: str = "segment") -> pd.DataFrame:
    """Return the row of the layer ``runs``."""
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
        "parameters": json.dumps({**job.options.to_dict(), "notes": decision.notes}, default=str),
        "started": job.started.isoformat(timespec="seconds"),
        "seconds": job.clock.seconds()["total"],
    }
    return pd.DataFrame([row])


def _write(job: Job, targets: Targets, layers: dict[str, Any], prepared: Prepared) -> None:
    with job.clock.time("write"):
        write_geopackage(job.folder / "outlines.gpkg", overwrite=True, **layers)
        if targets.quicklook is not None:
            _draw(job, layers["outlines"])


def _draw(job: Job, rivers: gpd.GeoDataFrame) -> None:
    wanted = [role for role in ("red", "green", "blue") if role in job.views.roles]
    bands = wanted if len(wanted) == 3 else list(job.views.roles[:3])
    bands = bands if len(bands) == 3 else [bands[0]] * 3
    picture = job.views.preview.sel(band=bands)
    stretched = picture.copy(data=fit_stretch(job.views.preview, bands).apply(picture.values))
    quicklook(stretched, rivers, job.folder / "quicklook.png")


def _water_share(path: Path) -> float:
    counts = np.zeros(NODATA + 1, np.int64)
    with rasterio.open(path) as mask:
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
