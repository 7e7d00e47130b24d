"""Before a run: how many tiles, how much memory and disk, how long, and what to change if too much."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import dask
import numpy as np
from odc.geo.geobox import GeoBox
from scipy.special import expit

from geosam.anew import read_part
from geosam.cores import shared_cores
from geosam.decision import Decision, decide
from geosam.durable import Lazy, part_of
from geosam.embeddings import stored_bytes
from geosam.export.cog import write_raster
from geosam.grids import geobox_of
from geosam.kept import on_grid
from geosam.loading import load
from geosam.masks import DONE, SKIPPED_NODATA
from geosam.mosaic import Answer, Index, Mosaic, work_task
from geosam.opening import as_paths, inspect_source, view_scene
from geosam.options import Options
from geosam.pipeline import lay_out, prepare, tile_grid, tiles_of
from geosam.pixels import kept_bytes
from geosam.prompting import COARSE_PX, prompt_source
from geosam.segmentation import group_side
from geosam.stretch import Stretch
from geosam.tiles import TileGrid, TileGroup, group_tiles
from geosam.types import Model, Window
from geosam.vectors import outlines
from geosam.views import Views, pixel_m, view_array
from geosam.workers import shared_threads

PLACES = 3
"""Places at which tiles are really segmented, among those that look wet and among the others."""
GIVEN = ("vector", "raster", "text")
"""Sources of prompts that are a user's own."""
SIDE = 2
"""Groups a side at each of them: together they share what lies around, as in a run."""
WEIGHED = 4
"""Encoded tiles whose embeddings are compressed, to know how large a store will be."""
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
    """Of an embedding store of the tiles to encode, by what a few of them take when compressed."""
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
    begun = perf_counter()
    chosen = Options.of({**options, "model": model if isinstance(model, str) else model.name})
    source = inspect_source(as_paths(scene), chosen)
    views, _ = view_scene(source, chosen)
    decision = decide(views, chosen)
    loaded = load(chosen) if isinstance(model, str) else model
    opening = perf_counter() - begun
    grid = tile_grid(geobox_of(views.working), loaded, chosen)
    groups = group_tiles(grid, group_side(grid))
    full = with_data(grid, groups, views)
    wet = likely_wet(full, grid, groups, views, decision, chosen)
    kinds = [{i: n for i, n in full.items() if (i in wet) is kind} for kind in (True, False)]
    with shared_threads(chosen, loaded) as crew, shared_cores(crew.at_once(len(groups))):
        lay = layer(views, grid, groups, chosen, loaded, decision)
        looks = [look(lay, kind, chosen) for kind in kinds if kind]
    minutes = (opening + sum(seen.seconds for seen in looks)) / 60
    free = shutil.disk_usage(Path(source.paths[0]).resolve().parent).free
    encoded = [index for seen in looks for index in seen.encoded]
    tile_bytes = embedding_bytes(loaded, decision.stretch, views, grid, encoded)
    kept = kept_bytes(views) if decision.looks_everywhere else 0
    return _estimate(tile_bytes, grid, groups, full, looks, minutes, kept, free)


@dataclass(frozen=True)
class Look:
    """What some groups of one kind tell of all of that kind."""

    statuses: Counter[str]
    """Number of tiles looked at, by what became of them."""
    to_encode: float
    """Tiles of the whole kind that will be encoded."""
    seconds: float
    """What the whole kind will take."""
    encoded: tuple[Index, ...]
    """Some of the tiles that were encoded."""


def likely_wet(
    full: Mapping[Index, int],
    grid: TileGrid,
    groups: Mapping[Index, TileGroup],
    views: Views,
    decision: Decision,
    options: Options,
) -> set[Index]:
    """Return the groups in which the preview shows water, by the same evidence that prompts the model.

    Encoded tiles take many times as long as skipped ones, and rivers fill few places of a scene: looked
    at without regard to water, a plan of few places misses it or finds little else.
    """
    if decision.source in (*GIVEN, "none", "autosam"):
        return set(full)
    small = view_array(views.preview.chunk(), pixel_m(geobox_of(views.preview)))
    step = prompt_source(small, decision, options, Lazy(small)).coarse
    if step is None:
        return set(full)
    coarse = step(small)
    return set(_touching(coarse.values == 1, geobox_of(coarse), grid, groups)) & set(full)


@dataclass(frozen=True)
class Place:
    """Some neighbouring groups, laid out and not computed."""

    mosaic: Mosaic
    """What the model has to do there."""
    beside: Any = None
    """What speaks beside the model and does not prompt it, a lazy array; None where nothing does."""


def layer(
    views: Views,
    grid: TileGrid,
    groups: Mapping[Index, TileGroup],
    options: Options,
    model: Model,
    decision: Decision,
) -> Callable[[Sequence[Index]], Place]:
    """Return what lays out the part of a scene that some neighbouring groups see; what a user gave is
    looked at in the whole scene, and once.
    """

    def lay(part: Views) -> Place:
        keep = Lazy(part)
        prepared = prepare(part, options, keep, model, decision)
        mosaic = lay_out(part, tiles_of(prepared, keep))
        # What prompts is computed with the tiles; beside an index a network is asked as well.
        speaks = prepared.prompts.evidence if decision.witness == "index" else None
        return Place(mosaic, None if speaks is None else speaks(part).data)

    if decision.source in GIVEN:
        whole = Place(lay(views).mosaic)
        return lambda place: whole
    return lambda place: lay(part_views(views, grid, groups, place))


def look(
    lay: Callable[[Sequence[Index]], Place], groups: Mapping[Index, int], options: Options
) -> Look:
    """Work on some of these groups as a run does, to the outlines, and conclude on all of them."""
    places = [(lay(indices), indices) for indices in _sample(groups)]
    sample = [(place.mosaic, index) for place, indices in places for index in indices]
    tasks = [work_task(mosaic.work(mosaic.groups[index])) for mosaic, index in sample]
    started = perf_counter()
    dask.compute(tasks[0])
    first = perf_counter() - started  # with what only the first time takes
    answers: Sequence[Answer] = dask.compute(*tasks)
    dask.compute([place.beside for place, _ in places if place.beside is not None])
    with TemporaryDirectory() as folder:
        for (mosaic, index), answer in zip(sample, answers, strict=True):
            _finish(answer, mosaic, index, Path(folder) / "probability.tif", options)
    whole = perf_counter() - started - first
    share = len(groups) / len(sample)
    statuses = Counter(mask.status for answer in answers for mask in answer.tiles)
    seen = sum(n for status, n in statuses.items() if status != SKIPPED_NODATA)
    done = sum(groups.values()) * statuses[DONE] / max(1, seen)
    cold = max(0.0, first - whole / len(sample))
    encoded = _encoded([mosaic.groups[index] for mosaic, index in sample], answers)
    return Look(statuses, done, cold + share * whole, tuple(encoded))


def _encoded(groups: Sequence[TileGroup], answers: Sequence[Answer]) -> Iterator[Index]:
    """Give one encoded tile of each group that has any."""
    for group, answer in zip(groups, answers, strict=True):
        tiles = zip(group.tiles, answer.tiles, strict=True)
        yield from islice((tile.index for tile, mask in tiles if mask.status == DONE), 1)


def _finish(answer: Answer, mosaic: Mosaic, index: Index, path: Path, options: Options) -> None:
    """Write the probability of a group, and draw its outlines."""
    assert answer.planes is not None
    core = mosaic.core(index)
    rows, cols = core.slices(mosaic.groups[index].read)
    weighted, weights, _ = answer.planes[:, rows, cols]
    water = expit(np.divide(weighted, weights, out=np.zeros_like(weighted), where=weights > 0))
    raster = on_grid(water, mosaic.grid.geobox[core.slices()])
    write_raster(raster, path, kind="probability", overwrite=True)
    outlines(path, threshold=options.threshold)


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
    return Views(looks.lay, looks.grids, views.preview, views.around)


def with_data(grid: TileGrid, groups: Mapping[Index, TileGroup], views: Views) -> dict[Index, int]:
    """Return the groups that have any data, and how many of the tiles of each do, by the preview."""
    valid = np.isfinite(views.preview.values).any(axis=0)
    return _touching(valid, geobox_of(views.preview), grid, groups)


def _touching(
    found: np.ndarray, geobox: GeoBox, grid: TileGrid, groups: Mapping[Index, TileGroup]
) -> dict[Index, int]:
    """Return the groups that hold any of a mask's pixels, and how many of the tiles of each do.

    Parameters
    ----------
    found
        (y, x) bool.
    geobox
        Its grid, coarser than that of the tiles.
    grid, groups
        The tiles.
    """
    # Sums from the corner on: the number of pixels of any rectangle is four of them.
    sums = np.pad(found, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    to_mask = ~geobox.affine @ grid.geobox.affine
    counts = {}
    for index, group in groups.items():
        low = [to_mask @ (tile.core.col, tile.core.row) for tile in group.tiles]
        high = [to_mask @ (tile.core.col_end, tile.core.row_end) for tile in group.tiles]
        (left, top), (right, bottom) = np.floor(low).astype(int).T, np.ceil(high).astype(int).T
        rows = np.clip([top, bottom], 0, found.shape[0])
        cols = np.clip([left, right], 0, found.shape[1])
        inside = (
            sums[rows[1], cols[1]] - sums[rows[0], cols[1]]
            - sums[rows[1], cols[0]] + sums[rows[0], cols[0]]
        )  # fmt: skip
        counts[index] = int((inside > 0).sum())
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
    tile_bytes: int,
    grid: TileGrid,
    groups: Mapping[Index, TileGroup],
    full: Mapping[Index, int],
    looks: Sequence[Look],
    minutes: float,
    kept: int,
    free: int,
) -> Plan:
    with_pixels = sum(full.values())
    to_encode = round(sum(seen.to_encode for seen in looks))
    memory = _peak_bytes()
    store = to_encode * tile_bytes
    across = len({col for _, col in groups}) * next(iter(groups.values())).read.height ** 2
    height, width = grid.geobox.shape
    disk = ANSWER_BYTES * across * 2 + round(RESULT_BYTES * height * width * to_encode / len(grid))
    disk += kept
    return Plan(
        tiles=len(grid),
        without_data=len(grid) - with_pixels,
        without_prompts=with_pixels - to_encode,
        to_encode=to_encode,
        sampled=sum(seen.statuses.total() for seen in looks),
        minutes=minutes,
        memory_bytes=memory,
        store_bytes=store,
        disk_bytes=disk,
        free_bytes=free,
        advice=tuple(_advice(minutes, memory, store, disk, free)),
    )


def embedding_bytes(
    model: Model, stretch: Stretch, views: Views, grid: TileGrid, tiles: Sequence[Index]
) -> int:
    """Return what an encoded tile takes in a store, the mean of a few; 0 where none was encoded."""
    from geosam.models.features import encoder_of, to_half

    sizes = []
    for index in tiles[:: max(1, len(tiles) // WEIGHED)][:WEIGHED]:
        read = grid.tile(index).read
        pixels = stretch.apply(read_part(read, views.around, grid.geobox, stretch.bands))
        maps = to_half(encoder_of(model).encode(pixels[None]))
        sizes.append(stored_bytes({name: values[0] for name, values in maps.items()}))
    return round(np.mean(sizes)) if sizes else 0


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
