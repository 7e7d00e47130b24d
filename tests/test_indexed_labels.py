"""Labels that an index gives to scenes nobody labelled."""

import numpy as np
import pytest
import rasterio

from geosam.testing import synthetic_scene
from geosam.training.river_tiny.indexed import INDEXED, agreed, label_by_ndwi, read_indexed
from geosam.training.sample import IGNORE, LAND, WATER


@pytest.fixture(scope="module")
def drawn():
    return synthetic_scene((256, 256), seed=4, nodata_corner=0.1)


def bands_of(drawn, *names):
    return np.nan_to_num(drawn.scene.sel(band=list(names)).values)


def test_the_index_label_is_the_truth_but_for_unsure_pixels(drawn):
    green, nir = bands_of(drawn, "green", "nir")
    label = label_by_ndwi(green, nir)
    known = label != IGNORE
    truth = drawn.truth.values == 1
    assert (truth[known] == (label[known] == WATER)).mean() > 0.97
    assert known.mean() > 0.8


def test_nodata_is_ignored_and_not_land(drawn):
    green, nir = bands_of(drawn, "green", "nir")
    nodata = (green == 0) & (nir == 0)
    assert nodata.any()
    assert (label_by_ndwi(green, nir)[nodata] == IGNORE).all()


def test_where_the_index_parts_nothing_all_is_land():
    rng = np.random.default_rng(0)
    green = rng.normal(1000, 60, (64, 64))
    assert (label_by_ndwi(green, green * rng.normal(1.6, 0.1, (64, 64))) == LAND).all()


def test_an_image_keeps_of_its_label_what_the_index_agrees_with():
    pixels = np.ones((5, 1, 4), np.int16)
    pixels[1], pixels[4] = [[900, 900, 100, 100]], [[100, 100, 900, 900]]
    label = np.array([[WATER, LAND, WATER, LAND]], np.uint8)
    assert agreed(pixels, label).tolist() == [[WATER, IGNORE, IGNORE, LAND]]


def test_a_scene_in_fractions_keeps_its_steps(tmp_path, drawn):
    name, order = "irrawaddy_s2", INDEXED["irrawaddy_s2"]
    stack = np.zeros((max(order), 256, 256), np.float32)
    for band, values in zip(order, bands_of(drawn, "blue", "green", "red", "nir"), strict=True):
        stack[band - 1] = values / 10_000
    (tmp_path / "scenes").mkdir()
    profile = {"driver": "GTiff", "width": 256, "height": 256, "count": len(stack)}
    with rasterio.open(
        tmp_path / "scenes" / f"{name}.tif", "w", dtype="float32", crs="EPSG:32646", **profile
    ) as target:
        target.write(stack)
    pixels, label = read_indexed(tmp_path, name)
    assert pixels.shape == (5, 256, 256)
    np.testing.assert_allclose(pixels[:4], bands_of(drawn, "blue", "green", "red", "nir"), atol=1)
    np.testing.assert_array_equal(pixels[3], pixels[4])
    assert (label == WATER).any()
