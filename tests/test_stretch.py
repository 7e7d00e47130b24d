"""The one stretch of a scene: many levels whatever nodata and hot pixels there are."""

import json

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import from_origin

from geosam.errors import OptionError
from geosam.raster import inspect_scene, preview, read
from geosam.stretch import Stretch, StretchRule, fit_stretch, parse_stretch

RGB = ("red", "green", "blue")


def small(pixels):
    return xr.DataArray(np.asarray(pixels, np.float32), {"band": list(RGB)}, ("band", "y", "x"))


def levels_of_file(path, pixels, nodata=None):
    profile = {"crs": "EPSG:32618", "transform": from_origin(5e5, 4e6, 10, 10), "nodata": nodata}
    count, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=pixels.dtype,
        **profile,
    ) as target:
        target.write(pixels)
    source = inspect_scene(path, frame="keep")
    stretch = fit_stretch(preview(source), RGB)
    stretched = stretch.apply(read(source).values)
    return len(np.unique(np.round(stretched[0] * 255)))


def test_a_float_scene_with_nodata_keeps_its_levels(tmp_path):
    pixels = np.random.default_rng(0).normal(0.1, 0.03, (3, 300, 300)).astype(np.float32)
    pixels[:, :150] = -9999
    assert levels_of_file(tmp_path / "float.tif", pixels, nodata=-9999) >= 200


def test_a_hot_pixel_does_not_crush_a_16_bit_scene(tmp_path):
    pixels = np.random.default_rng(0).integers(400, 2600, (3, 300, 300)).astype(np.uint16)
    pixels[:, 10, 10] = 65535
    assert levels_of_file(tmp_path / "hot.tif", pixels) >= 200


def test_the_ends_are_percentiles_of_valid_pixels():
    pixels = np.tile(np.arange(10_000.0).reshape(1, 100, 100), (3, 1, 1))
    pixels[:, 50:] = np.nan
    stretch = fit_stretch(small(pixels), RGB, StretchRule((2, 98)))
    assert (stretch.low[0], stretch.high[0]) == tuple(np.percentile(np.arange(5000), (2, 98)))


def test_values_end_in_zero_to_one_and_nodata_in_the_middle():
    stretch = Stretch(RGB, (0, 0, 10), (100, 200, 20))
    pixels = np.array([[[-5, 50]], [[np.nan, 400]], [[15, 15]]], np.float32)
    stretched = stretch.apply(pixels)
    assert stretched.dtype == np.float32
    np.testing.assert_allclose(stretched, [[[0, 0.5]], [[0.5, 1]], [[0.5, 0.5]]])


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0, np.nan])
def test_a_constant_or_empty_band_stays_finite(value):
    pixels = np.full((3, 8, 8), value)
    stretched = fit_stretch(small(pixels), RGB).apply(pixels.astype(np.float32))
    assert np.isfinite(stretched).all()
    assert ((stretched >= 0) & (stretched <= 1)).all()


def test_a_stretch_survives_json():
    stretch = fit_stretch(small(np.random.default_rng(0).normal(size=(3, 9, 9))), RGB)
    assert Stretch.from_dict(json.loads(json.dumps(stretch.to_dict()))) == stretch


def test_given_ends_need_no_pixels():
    empty = small(np.full((3, 2, 2), np.nan))
    assert fit_stretch(empty, RGB, parse_stretch("none")) == Stretch(RGB, (0.0,) * 3, (255.0,) * 3)
    assert fit_stretch(empty, RGB, parse_stretch("0,3000")).high == (3000.0,) * 3


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("percentile", StretchRule((0.2, 99.8))),
        ("percentile:2,98", StretchRule((2.0, 98.0))),
        ("-0.1,0.4", StretchRule(None, (-0.1, 0.4))),
    ],
)
def test_rules_are_read(text, rule):
    assert parse_stretch(text) == rule


@pytest.mark.parametrize(
    "text", ["", "minmax", "5", "3,3", "9,1", "percentile:5,101", "1,2,3", "nan,1"]
)
def test_a_rule_that_is_none_is_refused(text):
    with pytest.raises(OptionError, match="is not understood"):
        parse_stretch(text)
