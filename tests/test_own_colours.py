"""What the colours of a scene add to the word of a network that has never seen it."""

from functools import partial

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy import optimize

from geosam.anew import Anew
from geosam.clock import Clock
from geosam.crew import Threads
from geosam.durable import Durable, Lazy, Lesson
from geosam.grids import geobox_of
from geosam.own_colours import BOUNDS, REACH_PX, describe, learn_colours, with_own_colours
from geosam.prompts.scene_prompts import ScenePrompts
from geosam.regression import regress
from geosam.stretch import Stretch
from geosam.sure_pixels import SAMPLE_PX, SURE, draw_sample, sample_windows, windows_around
from geosam.types import Window
from geosam.views import view_array

BANDS = ("red", "green", "blue")
STRETCH = Stretch(BANDS, (0.0,) * 3, (255.0,) * 3)
BROWN, MEADOW = np.array([120, 95, 60]), np.array([90, 120, 70])


def grid(rows, cols):
    return GeoBox.from_bbox((0, 0, cols, rows), "EPSG:32633", resolution=1.0)


@pytest.fixture(scope="module")
def scene():
    """Two brown lakes in a meadow, (band, y, x), and where they are."""
    rng = np.random.default_rng(0)
    water = np.zeros((2, 256, 384), bool)
    water[0, 60:190, 40:150] = water[1, 80:180, 230:330] = True
    pixels = np.where(water.any(0), BROWN[:, None, None], MEADOW[:, None, None])
    pixels = pixels + rng.normal(0, 6, pixels.shape)
    coords = dict(xr_coords(grid(256, 384))) | {"band": list(BANDS)}
    return xr.DataArray(pixels.astype("float32"), coords=coords, dims=("band", "y", "x")), water


def doubts(looks, water, whole):
    """A network that is sure of the first lake and of land, and takes the second for land, doubtfully."""
    box = geobox_of(looks.working)
    row, col = (round(v) for v in (~whole.affine @ box.affine @ (0, 0))[::-1])
    first, second = water[:, row : row + box.shape[0], col : col + box.shape[1]]
    logits = np.where(first, 3, np.where(second, -0.5, -3)).astype("float32")
    return looks.working.isel(band=0, drop=True).copy(data=logits).chunk()


@pytest.fixture(params=["lazy", "durable", "anew"])
def keep(request, scene, tmp_path):
    views = view_array(scene[0])
    if request.param == "lazy":
        return Lazy(views)
    if request.param == "anew":
        box = geobox_of(views.working)
        return Anew(views.around, box, [Window(0, 0, *box.shape)])
    return Durable(tmp_path, Threads(2), Clock(), views)


def adapted(keep, scene):
    views = view_array(scene[0])
    evidence = partial(doubts, water=scene[1], whole=geobox_of(views.working))
    windows = sample_windows(geobox_of(views.working))
    sample = partial(draw_sample, stretch=STRETCH)
    learned = keep.learn(Lesson(evidence, sample, learn_colours, windows, SAMPLE_PX), "colours")
    logits = evidence(views)
    return with_own_colours(logits, views, learned(views, logits), STRETCH).values, logits.values


def test_a_lake_that_the_network_doubts_is_found_by_the_colour_of_one_it_knows(keep, scene):
    said, before = adapted(keep, scene)
    second = scene[1][1]
    assert (before[second] > 0).mean() == 0
    assert (said[second] > 0).mean() > 0.98
    assert (said[~scene[1].any(0)] > 0).mean() < 0.002


def test_colours_add_no_more_than_their_bounds(keep, scene):
    said, before = adapted(keep, scene)
    assert (said - before).min() >= BOUNDS[0]
    assert (said - before).max() <= BOUNDS[1]
    assert (said - before).max() > 2


def test_kept_and_lazy_colours_are_the_same(scene, tmp_path):
    views = view_array(scene[0])
    lazy, _ = adapted(Lazy(views), scene)
    kept, _ = adapted(Durable(tmp_path, Threads(2), Clock(), views), scene)
    again, _ = adapted(Durable(tmp_path, Threads(2), Clock(), views), scene)
    assert np.array_equal(lazy, kept)
    assert np.array_equal(kept, again)


def test_nothing_is_learned_where_nothing_is_sure(scene):
    views = view_array(scene[0])
    unsure = views.working.isel(band=0, drop=True) * 0 + np.float32(0.9 * SURE)
    sample = draw_sample(unsure.chunk(), views, geobox_of(unsure), 1, STRETCH).compute()
    assert sample == {}
    assert learn_colours([sample, {}]) is None
    assert with_own_colours(unsure, views, None, STRETCH) is unsure


def test_a_description_is_of_what_is_known_alone():
    pixels = np.full((3, 40, 40), 100.0)
    pixels[:, :, 20:] = np.nan
    described = describe(pixels, STRETCH)
    assert described[:6, :, :20] == pytest.approx(100 / 255, abs=1e-6)
    assert described[6, :, :20] == pytest.approx(0, abs=1e-3)


def test_a_description_does_not_depend_on_the_window_it_is_made_in():
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 80, 90)).astype("float32")
    pixels[:, 30:34, 40:60] = np.nan
    whole = describe(pixels, STRETCH)
    part = describe(pixels[:, 20:70, 25:80], STRETCH)
    m = REACH_PX
    assert np.array_equal(part[:, m:-m, m:-m], whole[:, 20 + m : 70 - m, 25 + m : 80 - m])


def test_a_regression_ends_where_a_general_minimiser_does():
    rng = np.random.default_rng(2)
    terms = np.concatenate([np.ones((400, 1)), rng.normal(size=(400, 5))], axis=1)
    water = rng.random(400) < 1 / (1 + np.exp(-(terms @ [0.3, 2, -1, 0.5, 0, 4])))
    weight = rng.uniform(0.1, 3, 400)

    def loss(v):
        z = terms @ v
        return weight @ (np.logaddexp(0, z) - water * z) + 0.5 * 2 * (v[1:] @ v[1:])

    expected = optimize.minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8}).x
    assert regress(terms, water, weight, 2.0) == pytest.approx(expected, abs=1e-5)


def test_a_regression_of_kinds_that_are_apart_ends():
    terms = np.stack([np.ones(200), np.linspace(-1, 1, 200)], axis=1)
    found = regress(terms, terms[:, 1] > 0, np.full(200, 50.0), 2.0)
    assert np.isfinite(found).all()
    assert ((terms @ found > 0) == (terms[:, 1] > 0)).all()


@pytest.mark.parametrize("shape", [(200, 300), (512, 2048), (1000, 7000), (40_000, 50_000)])
def test_windows_lie_all_over_a_scene_and_apart(shape):
    windows = sample_windows(grid(*shape))
    seen = np.zeros(tuple(-(-n // 8) for n in shape), np.uint8)
    for window in windows.values():
        assert 0 <= window.row < window.row_end <= shape[0]
        assert 0 <= window.col < window.col_end <= shape[1]
        seen[window.row // 8 : window.row_end // 8, window.col // 8 : window.col_end // 8] += 1
    assert seen.max() == 1
    assert len(windows) <= 24 * 24
    small = shape[0] * shape[1] <= 2**20
    assert sum(w.height * w.width for w in windows.values()) == (
        shape[0] * shape[1] if small else len(windows) * 128**2
    )


def test_prompts_are_learned_from_where_they_lie():
    clicks = np.array([[10.0, 20.0], [300.0, 200.0], [2900.0, 3000.0], [1e6, 5.0]])
    given = ScenePrompts(points=clicks, labels=np.ones(4, int), objects=np.arange(4))
    found = windows_around(given, grid(4000, 3000))
    assert found == [Window(0, 0, 532, 522), Window(2488, 2388, 1024, 612)]


def test_a_pixel_is_answered_alike_in_whatever_part_a_prompt_sees_it(scene):
    views = view_array(scene[0])
    whole = geobox_of(views.working)
    evidence = partial(doubts, water=scene[1], whole=whole)
    sample = partial(draw_sample, stretch=STRETCH)
    lesson = Lesson(evidence, sample, learn_colours, {}, SAMPLE_PX)
    learned = Anew(views.around, whole, [Window(40, 20, 120, 200)]).learn(lesson, "colours")
    parts = []
    for first, last in ((0, 300), (100, 384)):
        looks = views.around(whole[0:256, first:last])
        logits = evidence(looks)
        said = with_own_colours(logits, looks, learned(looks, logits), STRETCH).values
        parts.append(said[:, 140 - first : 260 - first])
    assert np.array_equal(*parts)
    assert np.ptp(parts[0]) > 2
