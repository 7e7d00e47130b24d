"""What the steps of a run share: its scene and options, its folder, and what it keeps there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd

from geosam.clock import Clock
from geosam.crew import Crew
from geosam.decision import Decision, decide
from geosam.durable import Durable
from geosam.embeddings import EmbeddingStore, open_store, sign
from geosam.grids import geobox_of
from geosam.heap import share_heap
from geosam.kept import Kept, KeptPrompts
from geosam.ledger import Index
from geosam.models.checkpoint import located
from geosam.models.prompter_files import prompter_at_hand
from geosam.opening import as_paths, inspect_source, view_scene
from geosam.options import Options
from geosam.pipeline import Prepared, draw, prepare, tile_grid
from geosam.pixels import is_read_often
from geosam.progress import SILENT
from geosam.prompts.automatic import coarse_polygons
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts
from geosam.raster import Faults, Source, fingerprint
from geosam.resume import describe_run, named_file
from geosam.tiles import zoom, zoom_factor
from geosam.types import Model
from geosam.views import Views, pixel_m
from geosam.workspace import Targets, check_resume, check_targets, partial_folder, unfinished


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
    """Unfinished work, as an absolute path: whoever works on it may do so in another folder."""
    faults: Faults
    """What could not be read."""
    started: datetime
    """When it began."""
    clock: Clock
    """Times the steps."""
    show: bool
    """Whether to show progress."""


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
    share_heap()  # before the first threads, which read the preview
    options = replace(options, model=located(options.model))
    with clock.time("open"):
        source = inspect_source(as_paths(scene), options)
        given = (options.prompts, options.aoi, options.valid)
        others = [str(path) for path in map(named_file, given) if path is not None]
        if options.resume:
            check_resume(output)
        partial = unfinished(output) if options.resume else None
        check_targets(targets, [*source.paths, *others], options.overwrite, partial)
        faults = Faults(unfinished(output.absolute()) / "faults")
        views, aoi = view_scene(source, options, faults.tell)
        # Chosen before the model is loaded, or even fetched: what is wrong here is said at once.
        decision = decide(views, options)
    resume = options.resume if targets.outlines else None
    with partial_folder(output.absolute(), options.overwrite, resume) as folder:
        yield Job(source, views, decision, aoi, options, folder, faults, started, clock, progress)


def identity(job: Job, model: Model) -> dict[str, Any]:
    """Return what the finished blocks of a run depend on."""
    choices = asdict(replace(job.decision, notes=()))
    if job.decision.source == "autosam":
        beside = prompter_at_hand(job.options.model)
        choices["prompter"] = None if beside is None else beside.signature
    return describe_run(job.options, fingerprint(job.source), model.signature, choices)


def keep_of(job: Job, crew: Crew) -> Durable:
    """Return what keeps the blocks of a run; the pixels first, where many steps will look at them."""
    keep = Durable(job.folder, crew, job.clock, job.views, job.show)
    often = job.decision.looks_everywhere and is_read_often(job.views)
    return keep.with_pixels() if often else keep


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
    factor = zoom_factor(pixel_m(geobox_of(views.scene)), options.resolution)
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
