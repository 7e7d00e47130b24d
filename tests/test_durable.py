"""Blocks kept on disk are those that one lazy graph gives, whoever makes them and in whatever bands."""

import gc
import threading
import time
import warnings
from dataclasses import dataclass, field, replace
from functools import partial

import dask.array as da
import numpy as np
import pytest
import rasterio.features
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from test_mosaic import BOX, field_of

from geosam.answers import Answers
from geosam.clock import Clock
from geosam.coarse import finish
from geosam.crew import Threads
from geosam.durable import Durable, Tiling, _make_block
from geosam.grids import geobox_of
from geosam.kept import on_grid
from geosam.ledger import Ledger
from geosam.masks import TileMask
from geosam.mosaic import Answer, Mosaic, Work, accumulate, blend, blended
from geosam.progress import SILENT
from geosam.regrid import onto_scene
from geosam.sweep import sweep
from geosam.tiles import TileGrid, around, group_tiles
from geosam.views import Views, around_array, covering, look_at_arrays

GRID = TileGrid(BOX, 32, 8)


def look_at(values):
    """Views of a scene of one band, whose working grid is its own."""
    scene = on_grid(da.from_array(values, 32), BOX).expand_dims(band=["pan"])
    whole = look_at_arrays(scene, scene)
    return Views(whole.lay, whole.grids, scene, around=partial(around_array, whole=whole))


@pytest.fixture
def keep(tmp_path):
    views = look_at(np.random.default_rng(0).integers(0, 3, BOX.shape).astype(np.float32))
    return Durable(tmp_path, Threads(2), Clock(), views)


@dataclass(frozen=True)
class Laid:
    """Lays out the mosaic of a part: tiles say a plane over the whole scene, and are counted."""

    asked: list = field(default_factory=list)

    def __call__(self, looks):
        box = looks.working.odc.geobox
        corner = covering(box, BOX)
        grid = TileGrid(box, 32, 8)

        def work(group):
            def answer():
                self.asked.append(group.index)
                plane = 0.01 * corner.row - 0.02 * corner.col
                logits = [field_of(tile) + np.float32(plane) for tile in group.tiles]
                tiles = tuple(TileMask("done", None, 0.5) for _ in group.tiles)
                return Answer(accumulate(group, logits, [False] * len(logits), 8), tiles)

            return Work(answer, ())

        return Mosaic(grid, group_tiles(grid, 1), work)


@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_a_mosaic_row_by_row_is_that_of_one_graph_and_asks_each_group_once(
    keep, monkeypatch, ahead
):
    monkeypatch.setattr("geosam.crew.AHEAD", ahead)
    laid, groups = Laid(), group_tiles(GRID, 1)
    kept = keep.mosaic(laid, Tiling(GRID, 1), "segment").lazy().values
    assert sorted(laid.asked) == sorted(groups)
    np.testing.assert_allclose(kept, blended(Laid()(keep.views)).compute(), atol=1e-5)
    answers = keep.answers("segment")
    assert all([mask.status for mask in answers.tiles(index)] == ["done"] for index in groups)


def test_what_is_kept_is_not_made_again(keep):
    laid = Laid()
    first = keep.mosaic(laid, Tiling(GRID, 1), "segment").lazy().values
    laid.asked.clear()
    keep.mosaic(laid, Tiling(GRID, 1), "segment")
    assert laid.asked == []
    lost = sorted(group_tiles(GRID, 1))[20]
    Ledger(keep.folder / "segment").forget(lost)
    again = keep.mosaic(laid, Tiling(GRID, 1), "segment").lazy().values
    assert set(laid.asked) <= set(around(lost))  # nobody keeps the answers that all blocks have
    assert first.tobytes() == again.tobytes()


def test_what_is_asked_after_a_stop_is_computed_in_as_many_threads(keep):
    """The last bits of what torch computes may depend on how many there are."""
    told = []

    class Told(Threads):
        def at_once(self, models):
            told.append(models)
            return super().at_once(models)

    keep = replace(keep, crew=Told(2, models=2))
    laid, groups = Laid(), group_tiles(GRID, 1)
    keep.mosaic(laid, Tiling(GRID, 1, with_model=True), "segment")
    Ledger(keep.folder / "segment").forget(min(groups))
    laid.asked.clear()
    keep.mosaic(laid, Tiling(GRID, 1, with_model=True), "segment")
    assert 0 < len(laid.asked) < len(groups)
    assert told == [len(groups)] * 2


def test_answers_in_pieces_blend_as_the_planes_that_they_were_cut_from(tmp_path):
    rng, groups, answers = np.random.default_rng(0), group_tiles(GRID, 2), Answers(tmp_path)
    said = {}
    for index, group in groups.items():
        logits = [rng.normal(size=(32, 32)) if rng.random() < 0.5 else None for _ in group.tiles]
        planes = accumulate(group, logits, rng.random(len(logits)) < 0.5, GRID.overlap)
        said[index] = None if rng.random() < 0.2 else planes
        answers.keep(group, Answer(said[index], ()))
    for index, group in groups.items():
        near = [n for n in around(index) if n in groups]
        windows, strips = [], []
        for other in near:
            window = groups[other].read.intersection(group.core)
            if window is not None and said[other] is not None:
                windows.append(window)
                strips.append(said[other][(slice(None), *window.slices(groups[other].read))])
        found = answers.blend(group, near)
        whole = blend(strips, group.core, windows)
        if found is None:
            assert np.isnan(whole).all()
        else:
            np.testing.assert_array_equal(found, whole)


def test_planes_are_dropped_when_no_block_needs_them(keep):
    keep.mosaic(Laid(), Tiling(GRID, 1), "segment")
    left = Ledger(keep.folder / "segment.answers" / "planes").finished()
    assert {row for row, _ in left} == {max(row for row, _ in group_tiles(GRID, 1))}


def test_a_raster_comes_back_as_it_was_in_whole_and_in_part(keep, monkeypatch):
    monkeypatch.setattr("geosam.durable.BLOCK_PX", 40)
    pixels = keep.views.scene.values[0]
    steps = []

    def doubled(looks):
        steps.append(looks)
        return on_grid(looks.working.data[0].astype("uint8") * 2, looks.working.odc.geobox)

    kept = keep.raster(doubled, "values", margin=3)
    np.testing.assert_array_equal(kept.lazy().values, 2 * pixels)
    part = keep.views.around(BOX[33:101, 17:90])
    np.testing.assert_array_equal(kept(part).values, 2 * pixels[33:101, 17:90])
    n = len(steps)
    keep.raster(doubled, "values", margin=3)
    assert len(steps) == n == len(kept.blocks.indices())


def test_a_block_that_is_the_same_everywhere_is_kept_as_one_value(keep, monkeypatch):
    monkeypatch.setattr("geosam.durable.BLOCK_PX", 75)
    values = np.random.default_rng(0).integers(0, 200, BOX.shape).astype(np.uint8)
    values[:75, :75] = 7
    kept = keep.hold(on_grid(values, BOX), "values")
    np.testing.assert_array_equal(kept.lazy().values, values)
    sizes = {path.name: path.stat().st_size for path in (keep.folder / "values").iterdir()}
    assert sizes["0_0.npz"] < sizes["0_1.npz"] / 5


def test_pixels_do_not_outlive_the_work_on_a_block(keep):
    def step(looks):
        water = onto_scene(kept(looks).astype("float32"), looks.void)
        return finish(da.asarray(water.data) > 1, looks.working)

    kept = keep.raster(partial(_plain, dtype="uint8"), "values")
    make = partial(
        _make_block, kept=replace(kept, ledger=Ledger(keep.folder / "water")),
        step=step, around=keep.views.around, margin=12,
    )  # fmt: skip
    gc.collect()
    gc.disable()
    try:
        make((0, 0))
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        held = {id(a): a.nbytes for o in gc.garbage for a in gc.get_referents(o) if is_array(a)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert sum(held.values()) < BOX.shape[0] * BOX.shape[1] / 10


def is_array(value):
    return isinstance(value, np.ndarray)


def _plain(looks, dtype):
    return on_grid(looks.working.data[0].astype(dtype), geobox_of(looks.working))


def test_a_part_of_another_grid_covers_what_was_asked_for():
    fine = GeoBox((400, 600), Affine(2, 0, 600_030, 0, -2, 5_000_070), "EPSG:32633")
    window = covering(BOX[3:7, 10:11], fine)
    assert (window.row, window.col, window.height, window.width) == (15, 50, 20, 5)
    back = covering(fine[16:34, 51:54], BOX)
    assert (back.row, back.col, back.height, back.width) == (3, 10, 4, 1)


def test_no_more_work_is_handed_out_than_a_few_pieces_a_worker():
    taken, done = [], []

    def items():
        for n in range(50):
            taken.append(len(done))
            yield n

    results = Threads(2).do(lambda n: done.append(n) or n * n, items(), SILENT)
    assert results == [n * n for n in range(50)]
    assert max(n - k for n, k in enumerate(taken)) <= 9


def test_threads_that_make_polygons_at_once_warn_of_nothing():
    def polygons(number):
        mask = np.random.default_rng(number).integers(0, 2, (60, 60), dtype=np.uint8)
        return len(list(rasterio.features.shapes(mask)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert all(Threads(4).do(polygons, range(200), SILENT))
    assert caught == []


def test_fewer_pieces_of_work_go_through_a_large_model_at_a_time():
    crew, cores = Threads(3, models=1), torch.get_num_threads()
    running, most, together = set(), [], threading.Barrier(3, timeout=10)

    def alone(number):
        running.add(number)
        most.append((len(running), torch.get_num_threads()))
        time.sleep(0.001)
        running.discard(number)

    crew.do(alone, range(9), SILENT, models=9)
    assert set(most) == {(1, cores)}
    assert len(set(crew.do(lambda number: together.wait(), range(9), SILENT))) == 3
    assert torch.get_num_threads() == cores
    assert [Threads(8, models=2).at_once(n) for n in (0, 1, 2, 50)] == [8, 1, 2, 2]


def test_a_piece_of_work_waits_for_what_it_needs():
    over, seen = set(), {}

    def work(number):
        time.sleep(0.002 * ((7 * number) % 5))
        seen[number] = set(over)
        over.add(number)

    def needs(number):
        return [k for k in (number - 1, number - 5) if k >= 0 and number % 3 == 0]

    Threads(4).do(work, range(40), SILENT, needs)
    assert all(set(needs(number)) <= seen[number] for number in range(40))
    assert any(number - 1 not in seen[number] for number in range(1, 40))  # the others do not wait


@pytest.mark.parametrize("ahead", [1, 8, 50])
def test_a_sweep_asks_before_it_blends_and_drops_what_nobody_needs(ahead):
    groups = [(row, col) for row in range(-1, 9) for col in range(4)]
    missing = {index for index in groups if index != (3, 2)}
    asked = {index for index in groups if index[0] != 0}
    stages = sweep(groups, asked, missing, ahead)
    at = {(stage.kind, stage.index): number for number, stage in enumerate(stages)}
    assert {index for kind, index in at if kind == "ask"} == asked
    assert {index for kind, index in at if kind == "blend"} == missing
    for number, stage in enumerate(stages):
        assert all(needed < number for needed in stage.needs)
    for index in missing:
        needed = {at["ask", near] for near in around(index) if near in asked}
        assert set(stages[at["blend", index]].needs) == needed
    for kind, index in at:
        if kind == "drop":  # planes above this row: all blocks that they reach are blended
            over = _all_before(stages, at[kind, index])
            assert {at["blend", i] for i in missing if i[0] <= index[0]} <= over


def _all_before(stages, number):
    """Numbers of all stages that must be over before one, however indirectly."""
    over, left = set(), list(stages[number].needs)
    while left:
        k = left.pop()
        if k not in over:
            over.add(k)
            left += stages[k].needs
    return over
