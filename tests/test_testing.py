import itertools

import numpy as np
import pytest
import rasterio
from odc.geo.xr import ODCExtension  # noqa: F401  (the accessor `odc`)
from scipy import ndimage
from skimage.color import rgb2hsv

from geosam.indices import INDICES, ndwi
from geosam.testing import FakeModel, sinuous_river_mask, synthetic_scene, write_scene
from geosam.testing.noise import enlarge, grid_nodes, smooth_noise
from geosam.thresholds import choose_threshold
from geosam.types import Model, PixelPrompts

EIGHT = np.ones((3, 3))


@pytest.fixture(scope="module")
def made():
    return synthetic_scene((768, 768), seed=0)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def stretched_rgb(scene) -> np.ndarray:
    """Return (3, h, w) in 0 to 1, as one sees the scene."""
    rgb = scene.scene.sel(band=["red", "green", "blue"]).values.astype("float64")
    low, high = np.percentile(rgb[:, scene.truth.values != 255], (2, 98))
    return np.clip((rgb - low) / (high - low), 0, 1)


def pixels_at(points: np.ndarray, scene) -> tuple[np.ndarray, np.ndarray]:
    transform = scene.scene.odc.geobox.transform
    cols = (points[:, 0] - transform.c) / transform.a
    rows = (points[:, 1] - transform.f) / transform.e
    return rows.astype(int), cols.astype(int)


def ndwi_mask(scene) -> np.ndarray:
    valid = scene.truth.values != 255
    bands = scene.scene.astype("float32").where(valid)
    index = ndwi(bands.sel(band="green").values, bands.sel(band="nir").values)
    threshold = choose_threshold(index, INDICES["ndwi"])
    assert threshold.separable, threshold.sentence
    return index > threshold.value


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = (synthetic_scene((256, 300), seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.scene, again.scene)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert (first.truth.values != other.truth.values).mean() > 0.02


def test_the_scene_lies_on_a_grid_with_named_bands(made):
    geobox = made.scene.odc.geobox
    assert made.scene.dims == ("band", "y", "x")
    assert list(made.scene.band.values) == ["red", "green", "blue", "nir"]
    assert geobox.crs == "EPSG:32633"
    assert geobox.resolution.xy == (1.0, -1.0)
    assert geobox == made.truth.odc.geobox
    assert set(np.unique(made.truth)) == {0, 1, 255}


def test_the_empty_corner_is_nodata_in_all_bands_and_nothing_else_is(made):
    empty = made.truth.values == 255
    assert 0.001 < empty.mean() < 0.02
    np.testing.assert_array_equal((made.scene.values == made.scene.nodata).all(axis=0), empty)
    np.testing.assert_array_equal((made.scene.values == made.scene.nodata).any(axis=0), empty)
    assert (synthetic_scene((256, 256), nodata_corner=0).truth != 255).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(512, 512), (400, 900)])
def test_there_is_a_river_with_two_islands_and_a_pond_at_least(shape, seed):
    scene = synthetic_scene(shape, seed=seed)
    truth = scene.truth.values
    water = truth == 1
    assert 0.03 < water.mean() < 0.2
    assert len(scene.islands) >= 2
    assert (truth[pixels_at(scene.islands, scene)] == 0).all()
    _, n_holes = ndimage.label(ndimage.binary_fill_holes(water) & ~water)
    assert n_holes >= 2
    labels, _ = ndimage.label(water, EIGHT)
    sizes = np.sort(np.bincount(labels.ravel())[1:])
    assert sizes[-1] > 0.6 * water.sum(), "the river with its tributary"
    assert sizes[-2] > 200, "the pond"


def test_the_centerline_runs_through_the_water_from_edge_to_edge(made):
    rows, cols = pixels_at(made.centerline, made)
    inside = (rows >= 0) & (rows < 768) & (cols >= 0) & (cols < 768)
    truth = made.truth.values[rows[inside], cols[inside]]
    assert np.isin(truth, (1, 255)).mean() > 0.7, "the rest are islands and bars"
    assert not inside[0]
    assert not inside[-1]


@pytest.mark.parametrize("seed", range(3))
def test_ndwi_finds_the_water_but_not_without_mistakes(seed):
    scene = synthetic_scene((768, 768), seed=seed)
    water = scene.truth.values == 1
    found = ndwi_mask(scene)
    assert 0.75 < iou(found, water) < 0.97
    assert (found & ~water).sum() > 0, "roofs, shadows, wet gravel"
    assert (water & ~found).sum() > 0.001 * water.sum(), "riffles"
    assert (water != found).sum() > 0.03 * water.sum()


@pytest.mark.parametrize("seed", range(3))
def test_no_fixed_range_of_colours_or_brightness_finds_the_water(seed):
    scene = synthetic_scene((512, 512), seed=seed)
    water = (scene.truth.values == 1)[::2, ::2]
    valid = (scene.truth.values != 255)[::2, ::2]
    hue, saturation, value = rgb2hsv(stretched_rgb(scene)[:, ::2, ::2], channel_axis=0)
    hues = [
        (hue * 360 - low) % 360 <= width
        for low, width in itertools.product(range(0, 360, 30), (30, 60, 120, 360))
    ]
    saturations = [
        (saturation >= low) & (saturation <= high)
        for low, high in ((0, 1), (0, 0.3), (0.1, 0.5), (0.3, 1))
    ]
    values = [
        (value >= low) & (value <= low + width)
        for low, width in itertools.product((0, 0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3))
    ]
    best = max(
        iou(h & s & v & valid, water) for h, s, v in itertools.product(hues, saturations, values)
    )
    assert best < 0.7


def test_reflectances_relate_as_they_do_outdoors(made):
    red, green, blue, nir = (
        np.where(made.truth.values == 255, np.nan, band) * made.scene.scale_factor
        for band in made.scene.values.astype("float64")
    )
    water, land = made.truth.values == 1, made.truth.values == 0
    assert np.nanmedian(nir[water]) < 0.06 < np.nanmedian(nir[land])
    assert np.nanmedian(green[water]) > np.nanmedian(nir[water])
    lush = land & (nir > 0.3) & (red < 0.1)
    assert lush.mean() > 0.1
    assert (green[lush] > blue[lush]).mean() > 0.95
    shade = land & (red < 0.03) & (green < 0.04) & (nir < 0.1)
    assert 0.002 < shade.mean() < 0.1, "shadows are dark in all bands"


def test_a_bridge_cuts_the_river_in_two():
    without, with_bridge = (synthetic_scene((512, 512), seed=2, bridge=b) for b in (False, True))
    deck = (without.truth.values == 1) & (with_bridge.truth.values == 0)
    assert deck.any()
    count = [
        (np.bincount(ndimage.label(s.truth.values == 1, EIGHT)[0].ravel())[1:] > 500).sum()
        for s in (without, with_bridge)
    ]
    assert count[1] == count[0] + 1


@pytest.mark.parametrize(("dtype", "levels"), [("uint8", 150), ("uint16", 2000), ("float32", 5000)])
def test_the_scene_comes_in_the_usual_data_types(dtype, levels):
    scene = synthetic_scene((256, 256), dtype=dtype, nir=False)
    assert scene.scene.dtype == dtype
    assert scene.scene.shape == (3, 256, 256)
    assert len(np.unique(scene.scene)) > levels
    reflectance = scene.scene.values[:, 200, 100] * scene.scene.scale_factor
    assert (reflectance > 0).all()
    assert (reflectance < 0.65).all()


def test_wrong_requests_say_what_is_right():
    with pytest.raises(ValueError, match=r"at least \(256, 256\)"):
        synthetic_scene((100, 512))
    with pytest.raises(ValueError, match="'int16' must be one of uint8, uint16, float32"):
        synthetic_scene(dtype="int16")


def test_written_files_hold_what_was_made(tmp_path):
    paths = write_scene(tmp_path, shape=(256, 320), seed=3, crs="EPSG:32719", resolution_m=0.5)
    assert paths == (tmp_path / "scene.tif", tmp_path / "truth.tif")
    made = synthetic_scene((256, 320), seed=3, crs="EPSG:32719", resolution_m=0.5)
    with rasterio.open(paths[0]) as scene, rasterio.open(paths[1]) as truth:
        np.testing.assert_array_equal(scene.read(), made.scene)
        np.testing.assert_array_equal(truth.read(1), made.truth)
        assert scene.descriptions == ("red", "green", "blue", "nir")
        assert scene.nodata == 0
        assert scene.scales == (1e-4,) * 4
        assert truth.nodata == 255
        assert scene.crs.to_epsg() == truth.crs.to_epsg() == 32719
        assert scene.transform == truth.transform == made.scene.odc.geobox.transform


@pytest.mark.parametrize("n_islands", [0, 1, 3, 8])
@pytest.mark.parametrize("shape", [(96, 128), (200, 500), (640, 640)])
def test_a_sinuous_river_is_one_piece_with_its_islands_as_holes(shape, n_islands):
    mask = sinuous_river_mask(shape, n_islands)
    assert mask.shape == shape
    assert ndimage.label(mask, EIGHT)[1] == 1
    assert ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)[1] == n_islands
    assert mask[:, 0].any()
    assert mask[:, -1].any()


def test_the_fake_model_keeps_the_protocol_and_calls_dark_pixels_water():
    model = FakeModel(size=8)
    assert isinstance(model, Model)
    pixels = np.full((2, 3, 8, 8), 0.9, dtype="float32")
    pixels[1, :, :4] = 0.1
    prompts = [PixelPrompts(np.zeros((1, 0, 2)), np.zeros((1, 0), dtype=int))] * 2
    logits, scores = model.decode(model.encode(pixels), prompts)
    assert logits.shape == (2, 8, 8)
    assert logits.dtype == np.float32
    assert (logits[0] < 0).all()
    np.testing.assert_allclose(logits[1, :4], 8, rtol=1e-5)
    np.testing.assert_array_equal(scores, np.float32(0.9))


def test_enlarging_keeps_what_a_cubic_can_follow():
    rows, cols = grid_nodes((50, 70), 4)
    plane = 3 * rows[:, None] - 2 * cols[None, :] + 0.01 * cols[None, :] ** 2
    y, x = np.mgrid[:50, :70]
    np.testing.assert_allclose(enlarge(plane, (50, 70), 4), 3 * y - 2 * x + 0.01 * x**2, atol=1e-3)


def test_noise_is_normalised_and_as_smooth_as_asked():
    rng = np.random.default_rng(0)
    fine, coarse = smooth_noise((200, 300), 2, rng), smooth_noise((200, 300), 30, rng)
    for field in (fine, coarse):
        assert field.dtype == np.float32
        assert abs(field.mean()) < 1e-4
        assert field.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(coarse)).mean() < 0.2 * np.abs(np.diff(fine)).mean()
