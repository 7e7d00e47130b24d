"""Before a run: how many tiles, how much memory and disk, how long, and what to change if too much."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import dask
import numpy as np
from dask.delayed import Delayed

from geosam.decision import Decision, decide
from geosam.durable import Lazy, part_of
from geosam.masks import DONE
from geosam.mosaic import Answer, Index, work_task
from geosam.options import Options
from geosam.pipeline import COARSE_PX, lay_out, load, prepare, tile_grid, tiles_of
from geosam.runs import as_paths, inspect_source, shared_threads, view_scene
from geosam.segmentation import group_side
from geosam.tiles import TileGrid, TileGroup, group_tiles
from geosam.types import Model, Window
from geosam.views import Views

PLACES = 3
"""Places of a scene at which tiles are really segmented."""
SIDE = 2
"""Groups a side at each of them: together they share what lies around, as in a run."""
LONG_MINUTES = 8 * 60
"""A run longer than this is worth a thought."""
ANSWER_BYTES = 9
"""Of a pixel of a group, until its neighbours have its answer: two numbers and a flag."""
RESULT_BYTES = 5
"""Of a pixel of the model's grid: logits, and the share of the probability."""


@dataclass(frozen=True)
class Plan:
    """What a run would take, about."""

    tiles: int
    """Tiles of the scene."""
    without_data: int
    """Those that the preview shows as nodata."""
    without_prompts: int
    """Those that will have no prompts, by the share among the tiles looked at."""
    to_encode: int
    """The others."""
    sampled: int
    """Tiles that were really looked at."""
    minutes: float
    """From the start to the end, by the time these took."""
    memory_bytes: int
    """What this process has needed for them."""
    store_bytes: int
    """Of an embedding store of the tiles to encode."""
    disk_bytes: int
    """Of the unfinished work, at most."""
    free_bytes: int
    """Free where the scene lies."""
    advice: tuple[str, ...]
    """What to change where it will not fit."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-ready values."""
        return asdict(self)


def plan(scene: Any, *, model: str | Model = "river-tiny", **options: Any) -> Plan:
    """Estimate what :func:`geosam.run` would take, from some groups of tiles that are really done.

    Parameters
    ----------
    scene
        A raster, or several of the same bands and CRS.
    model
        A name, a folder, a hub id, or a loaded model.
    **options
        Those of :class:`geosam.options.Options`.

    Raises
    ------
    GeosamError
        If the scene cannot be used, or an option does not fit.
    """
    chosen = Options.of({**options, "model": model if isinstance(model, str) else model.name})
    source = inspect_source(as_paths(scene), chosen)
    views, _ = view_scene(source, chosen)
    decision = decide(views, chosen)
    loaded = load(chosen) if isinstance(model, str) else model
    grid = tile_grid(views.working.odc.geobox, loaded, chosen)
    groups = group_tiles(grid, group_side(grid))
    full = with_data(grid, groups, views)
    sample = _sample(full)
    with shared_threads(chosen, loaded):
        tasks = [
            task
            for place in sample
            for task in _asked(
                part_views(views, grid, groups, place), chosen, loaded, decision, place
            )
        ]
        dask.compute(tasks[:1])  # what only the first time takes
        started = perf_counter()
        answers: Sequence[Answer] = dask.compute(*tasks)
        seconds = perf_counter() - started
    share = len(full) / max(1, len(tasks))
    minutes = share * seconds / 60
    free = shutil.disk_usage(Path(source.paths[0]).resolve().parent).free
    return _estimate(loaded, grid, groups, full, answers, minutes, free)


def part_views(
    views: Views, grid: TileGrid, groups: Mapping[Index, TileGroup], place: Sequence[Index]
) -> Views:
    """Return the views of the part of a scene that some neighbouring groups see."""
    reads = [groups[index].read for index in place]
    row, col = min(read.row for read in reads), min(read.col for read in reads)
    end = max(read.row_end for read in reads), max(read.col_end for read in reads)
    window = Window(row, col, end[0] - row, end[1] - col)
    looks = views.around(part_of(grid.geobox, window, COARSE_PX))
    if looks is None:
        return views
    return Views(looks.scene, looks.working, looks.wider, views.preview, views.around)


def _asked(
    part: Views, options: Options, model: Model, decision: Decision, place: Sequence[Index]
) -> list[Delayed]:
    """Return the tasks that answer some groups of a part of the scene."""
    keep = Lazy(part)
    prepared = prepare(part, options, keep, model, decision)
    mosaic = lay_out(part, tiles_of(prepared, keep))
    return [work_task(mosaic.work(mosaic.groups[index])) for index in place]


def with_data(grid: TileGrid, groups: Mapping[Index, TileGroup], views: Views) -> dict[Index, int]:
    """Return the groups that have any data, and how many of the tiles of each do, by the preview."""
    valid = np.isfinite(views.preview.values).any(axis=0)
    # Sums from the corner on: the number of valid pixels of any rectangle is four of them.
    sums = np.pad(valid, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    to_preview = ~views.preview.odc.geobox.affine @ grid.geobox.affine
    counts = {}
    for index, group in groups.items():
        low = [to_preview @ (tile.core.col, tile.core.row) for tile in group.tiles]
        high = [to_preview @ (tile.core.col_end, tile.core.row_end) for tile in group.tiles]
        (left, top), (right, bottom) = np.floor(low).astype(int).T, np.ceil(high).astype(int).T
        rows = np.clip([top, bottom], 0, valid.shape[0])
        cols = np.clip([left, right], 0, valid.shape[1])
        found = (
            sums[rows[1], cols[1]] - sums[rows[0], cols[1]]
            - sums[rows[1], cols[0]] + sums[rows[0], cols[0]]
        )  # fmt: skip
        counts[index] = int((found > 0).sum())
    return {index: n for index, n in counts.items() if n}


def _sample(full: Mapping[Index, int]) -> list[list[Index]]:
    """Choose groups in clumps, spread evenly over those there are."""
    known = sorted(full)
    places = [known[round(k)] for k in np.linspace(0, max(0, len(known) - 1), PLACES + 2)[1:-1]]
    near = [(i, j) for i in range(SIDE) for j in range(SIDE)]
    clumps: list[list[Index]] = []
    for row, col in places if known else ():
        taken = {index for clump in clumps for index in clump}
        clump = {(row + i, col + j) for i, j in near} & set(full)
        clumps.append(sorted(clump - taken))
    return [clump for clump in clumps if clump]


def _estimate(
    model: Model,
    grid: TileGrid,
    groups: Mapping[Index, TileGroup],
    full: Mapping[Index, int],
    answers: Sequence[Answer],
    minutes: float,
    free: int,
) -> Plan:
    statuses = Counter(mask.status for answer in answers for mask in answer.tiles)
    seen = sum(n for status, n in statuses.items() if status != "skipped_nodata")
    with_pixels = sum(full.values())
    to_encode = round(with_pixels * statuses[DONE] / seen) if seen else 0
    memory = _peak_bytes()
    store = to_encode * _embedding_bytes(model)
    across = len({col for _, col in groups}) * next(iter(groups.values())).read.height ** 2
    height, width = grid.geobox.shape
    disk = ANSWER_BYTES * across * 2 + round(RESULT_BYTES * height * width * to_encode / len(grid))
    return Plan(
        tiles=len(grid),
        without_data=len(grid) - with_pixels,
        without_prompts=with_pixels - to_encode,
        to_encode=to_encode,
        sampled=sum(statuses.values()),
        minutes=minutes,
        memory_bytes=memory,
        store_bytes=store,
        disk_bytes=disk,
        free_bytes=free,
        advice=tuple(_advice(minutes, memory, store, disk, free)),
    )


def _embedding_bytes(model: Model) -> int:
    from geosam.models.features import to_half

    maps = to_half(model.encode(np.full((1, 3, model.size, model.size), 0.5, np.float32)))
    return sum(values.nbytes for values in maps.values())


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _advice(minutes: float, memory: int, store: int, disk: int, free: int) -> list[str]:
    said = []
    if minutes > LONG_MINUTES:
        said.append(
            "It takes long: a coarser --resolution has fewer tiles, --aoi looks at a part only, and a "
            "GPU is many times as fast."
        )
    if memory > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        said.append("It needs more memory than there is: use --workers 1 and --batch-size 1.")
    if disk > free:
        said.append(
            "The unfinished work may not fit where the scene lies: write to another disk, or use a "
            "coarser --resolution."
        )
    if store + disk > free:
        said.append("An embedding store does not fit beside it: put --store on another disk.")
    return said
