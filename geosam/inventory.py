"""Every object of a scene, from files to files: what ``geosam everything`` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from geosam.coco import write_coco
from geosam.crew import Crew
from geosam.durable import Durable
from geosam.errors import InputError, OptionError
from geosam.export.cog import write_raster
from geosam.export.geopackage import write_geopackage
from geosam.generation_rules import RULE_NAMES, GenerationRules
from geosam.grids import geobox_of
from geosam.ground import pixel_area_m2
from geosam.job import Job, identity, keep_of, open_job, prepare_job
from geosam.ledger import Ledger
from geosam.loading import load, sized
from geosam.masks import SKIPPED_NODATA
from geosam.models.mask_generation import recorded_rules
from geosam.mosaic import Work
from geosam.options import Options
from geosam.pipeline import Prepared, TileWork, tiles_of, work_on_group
from geosam.report import TileReport
from geosam.resume import settle
from geosam.runs import draw_quicklook
from geosam.segments.drawing import segment_layer
from geosam.segments.finding import find_pieces, pieces_kept
from geosam.segments.joining import join
from geosam.segments.labels import label_raster
from geosam.segments.pieces import Pieces
from geosam.tables import TileRow, count_tiles, run_table, tile_layer, tile_states, with_faults
from geosam.tiles import TileGroup, group_tiles
from geosam.types import Model
from geosam.vectors import MIN_AREA_PX
from geosam.views import Looks, pixel_m
from geosam.workers import crew_of
from geosam.workspace import Targets, publish

MAX_SHARE = 0.5
"""A segment that is more of the scene than this is what the others lie on."""
OUTPUT_OPTIONS = frozenset({"quicklook", "min_area", "simplify", "aoi", "resume", "overwrite"})
"""Those of the output of ``geosam segment`` that everything mode has as well."""
PIECES = "pieces"
"""What the pieces of the tiles are kept under."""


@dataclass(frozen=True, kw_only=True)
class Found(TileReport):
    """What a run of everything mode did."""

    segments: int
    """Objects."""
    area_m2: float
    """Median area of a segment on the ground; NaN without one."""


def everything(
    scene: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Model = "river-tiny",
    labels: str | Path | None = None,
    coco: str | Path | None = None,
    max_share: float = MAX_SHARE,
    progress: bool = False,
    **options: Any,
) -> Found:
    """Find every object of a scene, each once and whole across tiles.

    Parameters
    ----------
    scene
        A raster, or several of the same bands and CRS.
    output
        The GeoPackage to write: layers ``segments``, ``tiles`` and ``runs``.
    model
        A name, a folder, a hub id, or a loaded model.
    labels
        Also write a raster of `segment_id` (COG, uint32, 0 where there is none), the smallest
        segment of those that contain one another.
    coco
        Also write the segments as COCO JSON, in the pixels of the scene.
    max_share
        A segment goes if it is more of the scene's pixels with data than this.
    progress
        Whether to show bars on standard error.
    **options
        Those of :class:`geosam.options.Options` that concern the scene, the model, area of interest
        and output, and those of :class:`geosam.generation_rules.GenerationRules`, which the model
        may have recorded.

    Raises
    ------
    GeosamError
        If the request or its input is wrong; nothing is written then.

    Examples
    --------
    >>> geosam.everything("ortho.tif", "segments.gpkg").segments  # doctest: +SKIP
    412
    """
    if not 0 < max_share <= 1:
        raise OptionError(f"--max-share {max_share} must lie above 0, and be 1 at most.")
    named = model if isinstance(model, str) else model.name
    chosen, asked = _sorted_out({**options, "model": named})
    rules = GenerationRules.of(asked, recorded_rules(named))
    targets = Targets(
        Path(output), quicklook=_path(chosen.quicklook), labels=_path(labels), coco=_path(coco)
    )
    with open_job(scene, Path(output), targets, chosen, progress) as job:
        with job.clock.time("load model"):
            loaded = load(chosen) if isinstance(model, str) else model
        job = dataclasses.replace(job, options=sized(job.options, loaded))
        rest = {f"--{name.replace('_', '-')}": value for name, value in asdict(rules).items()}
        settle(job.folder, identity(job, loaded) | rest)
        with crew_of(job, loaded) as crew:
            return _run(job, loaded, rules, targets, max_share, crew)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _sorted_out(options: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Part the options of the scene from the rules of the mask generator."""
    groups = {f.name: f.metadata["group"] for f in dataclasses.fields(Options)}
    for name in options:
        if name in RULE_NAMES or name in OUTPUT_OPTIONS or groups.get(name) in ("scene", "model"):
            continue
        raise OptionError(
            f"{name!r} is not an option of everything mode. See geosam everything --help."
        )
    asked = {name: value for name, value in options.items() if name in RULE_NAMES}
    others = {name: value for name, value in options.items() if name not in RULE_NAMES}
    return Options.of({**others, "prompts": "none"}), asked


def _run(
    job: Job, model: Model, rules: GenerationRules, targets: Targets, max_share: float, crew: Crew
) -> Found:
    keep = keep_of(job, crew)
    prepared = prepare_job(job, model, keep)
    pieces, states, n_valid = _find(job, prepared, rules, keep)
    if (states.status == SKIPPED_NODATA).all():
        raise InputError(
            f"{', '.join(job.source.paths)} has no valid pixel to look at. Check --nodata, --valid "
            "and --aoi."
        )
    with job.clock.time("join"):
        segments = join(pieces, rules.mask_nms_thresh, max_share * n_valid)
    del pieces
    with job.clock.time("outlines"):
        found = segment_layer(
            segments, prepared.grid.geobox, **_sizes(job, prepared, n_valid, max_share)
        )
    _write(job, targets, found, states, prepared, rules)
    files = publish(job.folder, targets)
    return Found(
        output=files[0],
        files=files,
        notes=(job.source.sentence, job.decision.notes[0], _sentence(rules)),
        segments=len(found),
        area_m2=float(found.area_m2.median()),
        resolution_m=pixel_m(prepared.grid.geobox),
        tiles=count_tiles(states),
        seconds=job.clock.seconds(),
    )


def _find(
    job: Job, prepared: Prepared, rules: GenerationRules, keep: Durable
) -> tuple[Pieces, pd.DataFrame, int]:
    """Find the pieces of all tiles, what became of these, and the pixels with data."""
    geobox = prepared.grid.geobox
    coarser = pixel_m(geobox) > 1.5 * pixel_m(geobox_of(job.views.scene))
    find = partial(find_pieces, rules=rules, geobox=geobox, aoi=job.aoi, margin_px=int(coarser))
    lay = partial(_look_for_pieces, what=tiles_of(prepared, keep), find=find)
    ledger = keep.collect(lay, prepared.grid, prepared.per_side, PIECES)
    return _read(ledger, job, prepared)


def _look_for_pieces(
    looks: Looks, group: TileGroup, what: TileWork, find: Callable[..., Any]
) -> Work:
    return work_on_group(looks, group, what, partial(find, whole=group))


def _read(ledger: Ledger, job: Job, prepared: Prepared) -> tuple[Pieces, pd.DataFrame, int]:
    parts, n_valid = [], 0
    rows: list[TileRow] = []
    groups = group_tiles(prepared.grid, prepared.per_side)
    for index in sorted(groups):
        pieces, masks, n = pieces_kept(ledger.load(index), len(groups[index].tiles))
        parts.append(pieces)
        rows += list(zip(groups[index].tiles, masks, strict=True))
        n_valid += n
    states = with_faults(tile_states(rows), job.faults, prepared)
    return Pieces.concatenate(parts), states, n_valid


def _sizes(job: Job, prepared: Prepared, n_valid: int, max_share: float) -> dict[str, Any]:
    """Defaults follow the coarser of the two grids: the model saw nothing finer."""
    native, working = (pixel_m(g) for g in (geobox_of(job.views.scene), prepared.grid.geobox))
    smallest = MIN_AREA_PX * max(native, working) ** 2
    options = job.options
    return {
        "min_area": smallest if options.min_area is None else options.min_area,
        "max_area": max_share * n_valid * float(pixel_area_m2(prepared.grid.geobox)),
        "simplify": options.simplify,
    }


def _write(
    job: Job,
    targets: Targets,
    found: gpd.GeoDataFrame,
    states: pd.DataFrame,
    prepared: Prepared,
    rules: GenerationRules,
) -> None:
    with job.clock.time("write"):
        layers = {
            "segments": found,
            "tiles": tile_layer(states, prepared),
            "runs": run_table(job, prepared, "everything", asdict(rules)),
        }
        write_geopackage(job.folder / "outlines.gpkg", overwrite=True, **layers)
        if targets.labels is not None:
            numbers = label_raster(found, job.views.scene)
            write_raster(numbers, job.folder / "labels.tif", kind="labels", overwrite=True)
        if targets.coco is not None:
            write_coco(job.folder / "coco.json", found, geobox_of(job.views.scene), overwrite=True)
        if targets.quicklook is not None:
            draw_quicklook(job, found, f"{len(found):,} segments")


def _sentence(rules: GenerationRules) -> str:
    """Say what the model is asked."""
    clicks = f"{rules.points_per_side} x {rules.points_per_side} clicks a tile"
    shapes = "the shapes that colour tells apart"
    asked = [clicks] * bool(rules.points_per_side) + [shapes] * rules.shapes
    return (
        f"Asked: {' and '.join(asked)}; masks with a predicted IoU above {rules.pred_iou_thresh:g} "
        f"and a stability of {rules.stability_score_thresh:g} stay."
    )
