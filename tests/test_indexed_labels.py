"""Labels that an index gives to scenes nobody labelled."""

import json

import numpy as np
import pytest
import rasterio

from geosam.testing import synthetic_scene
from geosam.training.river_tiny.indexed import INDEXED, agreed, label_by_ndwi, read_indexed
from geosam.training.river_tiny.mixes import COLOURS, INFRARED
from geosam.training.river_tiny.sources import load_scenes
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


@pytest.mark.parametrize(("mix", "share"), [(COLOURS, 0.5), (INFRARED, 1.0)])
def test_labels_of_chips_are_cleaned_for_the_mix_in_colours_alone(tmp_path, mix, share):
    pixels = np.full((5, 8, 8), 1000, np.int16)
    pixels[4, :, :4], pixels[4, :, 4:] = 500, 3000  # wet and dry by MNDWI
    folder = tmp_path / "chips_multispectral"
    for name, bands, driver in (
        ("images/a.tif", pixels, "GTiff"),
        ("masks/a.png", pixels[:1] * 0 + 1, "PNG"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True)
        shape = {"count": len(bands), "height": 8, "width": 8}
        kind = "int16" if driver == "GTiff" else "uint8"
        with rasterio.open(path, "w", driver=driver, dtype=kind, **shape) as target:
            target.write(bands.astype(kind))
    (tmp_path / "splits.json").write_text(json.dumps({folder.name: {"train": ["a"]}}))
    scene = load_scenes(tmp_path, folder.name, "train", None, mix.agreed)[0]
    assert (scene.labels[0] != IGNORE).mean() == share
    assert (scene.labels[0][:, :4] == WATER).all()
