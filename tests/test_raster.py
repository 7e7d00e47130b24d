"""Scenes from files, with rasterio as the oracle."""

import pickle
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

import geosam.raster.decimated
from geosam.errors import BandError, GeosamWarning, InputError, OptionError
from geosam.raster import (
    coarsen,
    describe,
    fingerprint,
    inspect_scene,
    is_void,
    open_scene,
    preview,
    read,
    read_coarse,
)

UTM = "EPSG:32618"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)
SOUTH_UP = Affine(10, 0, 500_000, 0, 10, 4_000_000)
ROTATED = Affine.translation(500_000, 4_000_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
DEGREES = Affine(0.0008084837557075694, 0, -74.72249415376068, 0, -0.0008084837557075694, -8.2821)
GRIDS = {"north-up": NORTH_UP, "south-up": SOUTH_UP, "rotated": ROTATED}
SHARED = Path(__file__).parents[2] / "shared" / "data" / "scenes"
RGB = {"red": 1, "green": 2, "blue": 3}


def noise(*shape, dtype="uint16", seed=0):
    values = np.random.default_rng(seed).integers(1, 250, shape)
    return values.astype(dtype) + (np.float32(0.25) if dtype == "float32" else 0)


def write(path, pixels, *, transform=NORTH_UP, crs=UTM, **options):
    """Write (band, y, x) as a GeoTIFF without colours, so that roles and masks are the test's."""
    descriptions, scales, offsets, mask, colours, overviews = (
        options.pop(name, None)
        for name in ("descriptions", "scales", "offsets", "mask", "colours", "overviews")
    )
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "photometric": "minisblack", "alpha": "no", **options}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", width=width, height=height, count=count, dtype=pixels.dtype.name,
            crs=crs, transform=transform, **profile,
        ) as target,
    ):  # fmt: skip
        target.write(pixels)
        if descriptions:
            target.descriptions = descriptions
        if scales:
            target.scales, target.offsets = scales, offsets
        if colours:
            target.colorinterp = colours
        if mask is not None:
            target.write_mask(mask)
        if overviews:
            target.build_overviews(overviews, Resampling.average)
    return path


def stored(path, **options):
    with rasterio.open(path) as source:
        return source.read(**options)


def values_of(path, **options):
    return open_scene(path, **options).values


# ---- the native grid


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_pixels_are_those_that_rasterio_reads(tmp_path, grid, dtype):
    path = write(tmp_path / "a.tif", noise(4, 70, 90, dtype=dtype), transform=GRIDS[grid])
    scene = open_scene(path, chunks=32)
    assert scene.dtype == np.float32
    np.testing.assert_array_equal(scene.values, stored(path).astype(np.float32))


@pytest.mark.parametrize("transform", [*GRIDS.values(), DEGREES])
def test_the_grid_of_a_scene_is_exactly_that_of_its_file(tmp_path, transform):
    crs = "EPSG:4326" if transform is DEGREES else UTM
    scene = open_scene(write(tmp_path / "a.tif", noise(3, 37, 69), transform=transform, crs=crs))
    assert scene.dims == ("band", "y", "x")
    assert scene.odc.geobox == GeoBox((37, 69), transform, crs)
    assert scene.odc.geobox.affine == transform


@pytest.mark.parametrize("grid", GRIDS)
def test_a_window_of_the_grid_is_a_window_of_the_file(tmp_path, grid):
    path = write(tmp_path / "a.tif", noise(4, 70, 90), transform=GRIDS[grid])
    geobox = open_scene(path).odc.geobox[20:50, 30:77]
    np.testing.assert_array_equal(values_of(path, geobox=geobox), stored(path)[:, 20:50, 30:77])


def test_a_grid_that_overhangs_the_scene_is_nodata_there(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 20, 30))
    geobox = GeoBox((30, 40), NORTH_UP @ Affine.translation(-5, -5), UTM)
    values = values_of(path, geobox=geobox)
    np.testing.assert_array_equal(values[:, 5:25, 5:35], stored(path))
    values[:, 5:25, 5:35] = np.nan
    assert np.isnan(values).all()


def test_all_bands_are_in_one_chunk_and_bands_have_their_roles(tmp_path):
    scene = open_scene(write(tmp_path / "a.tif", noise(4, 70, 90)), chunks=50)
    assert scene.chunks == ((4,), (50, 20), (50, 40))
    assert list(scene.band.values) == ["red", "green", "blue", "nir"]


def test_a_vrt_and_a_path_inside_a_zip_are_scenes_too(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 20, 30))
    copy_raster(path, tmp_path / "a.vrt", driver="VRT")
    np.testing.assert_array_equal(values_of(tmp_path / "a.vrt"), stored(path))
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.tif")
    np.testing.assert_array_equal(values_of(f"/vsizip/{tmp_path}/a.zip/a.tif"), stored(path))


def test_a_source_can_be_sent_to_another_process(tmp_path):
    source = inspect_scene(write(tmp_path / "a.tif", noise(4, 20, 30)))
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(read(again).values, read(source).values)


def test_many_threads_read_one_scene(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 200, 200), tiled=True, blockxsize=16, blockysize=16)
    scene = open_scene(path, chunks=16)
    np.testing.assert_array_equal(scene.data.compute(num_workers=8), stored(path))


def test_a_replaced_file_is_read_anew(tmp_path):
    path = tmp_path / "a.tif"
    for seed in (1, 2):
        pixels = noise(4, 20, 30, seed=seed)
        np.testing.assert_array_equal(values_of(write(path, pixels)), pixels)


# ---- nodata


def test_a_pixel_is_nodata_only_where_all_bands_are(tmp_path):
    pixels = noise(4, 10, 10)
    pixels[:, 0, 0] = 0
    pixels[1, 5, 5] = 0
    values = values_of(write(tmp_path / "a.tif", pixels, nodata=0))
    assert np.isnan(values[:, 0, 0]).all()
    assert values[1, 5, 5] == 0
    assert np.isnan(values).sum() == 4


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_band_with_another_nodata_value_is_missing_alone(tmp_path, dtype):
    pixels = noise(4, 10, 10, dtype=dtype)
    pixels[:, 0, 0] = -9999
    pixels[1, 5, 5] = -9999
    values = values_of(write(tmp_path / "a.tif", pixels, nodata=-9999))
    assert np.isnan(values).sum() == 5
    assert np.isnan(values[1, 5, 5])


def test_nan_is_nodata_without_a_tag(tmp_path):
    pixels = noise(4, 10, 10, dtype="float32")
    pixels[:, :3] = np.nan
    pixels[2, 6, 6] = np.nan
    values = values_of(write(tmp_path / "a.tif", pixels))
    np.testing.assert_array_equal(values, pixels)


def test_a_nodata_value_that_float32_rounds_is_found(tmp_path):
    pixels = noise(3, 10, 10, dtype="float32")
    pixels[:, :2] = np.finfo(np.float32).min
    values = values_of(write(tmp_path / "a.tif", pixels, nodata=-3.4028234663852886e38))
    assert np.isnan(values[:, :2]).all()


def test_the_users_nodata_replaces_the_tag(tmp_path):
    pixels = noise(3, 10, 10)
    pixels[:, 0], pixels[:, 1] = 0, 7
    values = values_of(write(tmp_path / "a.tif", pixels, nodata=0), nodata=7)
    assert np.isnan(values[:, 1]).all()
    assert (values[:, 0] == 0).all()


def test_alpha_hides_pixels_and_is_no_band(tmp_path):
    pixels = noise(4, 20, 20, dtype="uint8")
    pixels[3] = 255
    pixels[3, :5] = 0
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    scene = open_scene(write(tmp_path / "a.tif", pixels, colours=colours))
    assert list(scene.band.values) == ["red", "green", "blue"]
    assert np.isnan(scene.values[:, :5]).all()
    np.testing.assert_array_equal(scene.values[:, 5:], pixels[:3, 5:])


def test_a_near_infrared_band_tagged_as_alpha_is_a_band(tmp_path):
    pixels = noise(4, 64, 64, dtype="uint8")
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    source = inspect_scene(write(tmp_path / "a.tif", pixels, colours=colours))
    assert source.names.names == ("red", "green", "blue", "nir")
    assert "nir=4 (assumed" in source.sentence
    np.testing.assert_array_equal(read(source).values, pixels)


def test_a_band_that_the_user_names_is_never_alpha(tmp_path):
    pixels = noise(4, 20, 20, dtype="uint8")
    pixels[3] = 255
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write(tmp_path / "a.tif", pixels, colours=colours)
    assert list(open_scene(path, bands="nir=4").band.values) == ["red", "green", "blue", "nir"]


def test_a_mask_band_hides_pixels(tmp_path):
    pixels = noise(3, 20, 20, dtype="uint8")
    mask = np.full((20, 20), 255, np.uint8)
    mask[:, :7] = 0
    values = values_of(write(tmp_path / "a.tif", pixels, mask=mask))
    assert np.isnan(values[:, :, :7]).all()
    np.testing.assert_array_equal(values[:, :, 7:], pixels[:, :, 7:])


@pytest.mark.parametrize(("suffix", "kept"), [("", (1, 2, 9)), (":2,9", (2, 9))])
def test_a_quality_mask_of_another_resolution_says_what_counts(tmp_path, suffix, kept):
    path = write(tmp_path / "a.tif", noise(3, 40, 40))
    quality = np.random.default_rng(0).choice([0, 1, 2, 9], (1, 20, 20)).astype(np.uint8)
    mask = write(tmp_path / "qa.tif", quality, transform=NORTH_UP @ Affine.scale(2))
    values = values_of(path, valid=f"{mask}{suffix}")
    expected = np.isin(quality[0], kept).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(np.isfinite(values), [expected] * 3)


def test_a_quality_mask_in_another_crs_is_warped(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 40, 40))
    whole = GeoBox((40, 40), NORTH_UP, UTM)
    around = whole.extent.to_crs("EPSG:4326").boundingbox
    transform = Affine((around.right - around.left) / 2, 0, around.left, 0, -1, around.top + 0.5)
    mask = write(tmp_path / "qa.tif", np.array([[[1, 0]] * 2], np.uint8), transform=transform, crs="EPSG:4326")  # fmt: skip
    values = values_of(path, valid=str(mask))
    assert np.isfinite(values[:, :, :19]).all()
    assert np.isnan(values[:, :, 21:]).all()


# ---- scale, offset, negative values


def test_scale_and_offset_tags_are_applied_and_reflectance_below_zero_clipped(tmp_path):
    pixels = noise(4, 10, 10) * 40
    path = write(tmp_path / "a.tif", pixels, scales=[2.75e-5] * 4, offsets=[-0.2] * 4)
    expected = np.maximum(pixels * 2.75e-5 - 0.2, 0)
    assert (expected == 0).any()
    np.testing.assert_allclose(values_of(path), expected, rtol=1e-6, atol=1e-9)


def test_the_users_scale_and_offset_replace_the_tags(tmp_path):
    pixels = noise(4, 10, 10)
    path = write(tmp_path / "a.tif", pixels, scales=[9] * 4, offsets=[9] * 4)
    np.testing.assert_allclose(values_of(path, scale=1e-4, offset=0), pixels * 1e-4, rtol=1e-6)


def test_nodata_is_a_stored_value_before_scale_and_offset(tmp_path):
    pixels = noise(3, 10, 10)
    pixels[:, 0] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0, scales=[1] * 3, offsets=[-5] * 3)
    assert np.isnan(values_of(path)[:, 0]).all()


def test_signed_reflectance_is_clipped_and_radar_is_not(tmp_path):
    pixels = np.full((3, 4, 4), -12, np.int16)
    path = write(tmp_path / "a.tif", pixels, descriptions=("red", "VV", "nir"), nodata=-9999)
    values = values_of(path)
    assert (values[[0, 2]] == 0).all()
    assert (values[1] == -12).all()


def test_floats_without_scale_are_never_clipped(tmp_path):
    pixels = noise(3, 10, 10, dtype="float32") - 100
    np.testing.assert_array_equal(values_of(write(tmp_path / "a.tif", pixels)), pixels)


# ---- the frame without a tag


def framed(path, value=0, dtype="uint16", **options):
    pixels = noise(4, 120, 120, dtype=dtype)
    row, col = np.indices((120, 120))
    outside = row + col < 60
    pixels[:, outside] = value
    pixels[:, 90, 90] = value
    return write(path, pixels, **options), outside


@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_frame_is_nodata_and_said(tmp_path, value):
    path, outside = framed(tmp_path / "a.tif", value)
    with pytest.warns(GeosamWarning, match=f"no nodata tag and a constant frame of {value} over"):
        values = values_of(path)
    assert np.isnan(values[:, outside]).all()
    assert np.isfinite(values[:, ~outside]).all(), "a pixel of that value inside is a value"


@pytest.mark.parametrize("value", [0, 255])
def test_a_frame_that_compression_made_noisy_is_nodata_and_said(tmp_path, value):
    rng = np.random.default_rng(2)
    pixels = rng.integers(60, 200, (3, 160, 160)).astype("uint8")
    row, col = np.indices((160, 160))
    outside = row + col < 100
    pixels[:, outside] = value
    path = write(tmp_path / "a.tif", pixels, compress="jpeg", jpeg_quality=75)
    raw = stored(path)
    noisy = (raw[:, outside] != value).any(axis=0)
    assert 0.01 < noisy.mean() < 0.5, "the frame is noisy along its edge"
    with pytest.warns(GeosamWarning, match=f"no nodata tag and a noisy frame of {value} over"):
        values = values_of(path)
    near = (np.abs(raw[:, outside].astype(int) - value) <= 15).all(axis=0)
    assert np.isnan(values[:, outside][:, near]).all()
    assert near.mean() > 0.95
    assert np.isfinite(values[:, ~outside]).all()


def test_dark_water_along_the_border_is_no_frame(tmp_path):
    rng = np.random.default_rng(3)
    pixels = rng.integers(60, 200, (3, 120, 120)).astype("uint8")
    pixels[:, :, :40] = rng.integers(7, 15, (3, 120, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("error", GeosamWarning)
        assert np.isfinite(values_of(write(tmp_path / "a.tif", pixels))).all()


def test_dark_water_beside_a_constant_frame_is_no_part_of_it(tmp_path):
    rng = np.random.default_rng(3)
    pixels = rng.integers(60, 200, (3, 120, 120)).astype("uint8")
    pixels[:, :, :20] = 0
    pixels[:, :, 20:38] = rng.integers(3, 8, (3, 120, 18))
    with pytest.warns(GeosamWarning, match="a constant frame of 0 over"):
        values = values_of(write(tmp_path / "a.tif", pixels))
    assert np.isnan(values[:, :, :20]).all()
    assert np.isfinite(values[:, :, 20:]).all()


def test_a_frame_can_be_kept_or_refused(tmp_path):
    path, _ = framed(tmp_path / "a.tif")
    np.testing.assert_array_equal(values_of(path, frame="keep"), stored(path))
    with pytest.raises(InputError, match=r"constant frame of 0 .* --frame keep"):
        open_scene(path, frame="refuse")
    with pytest.raises(OptionError, match="Frame 'no' is not known"):
        open_scene(path, frame="no")


def test_a_scene_without_a_frame_gives_no_warning(tmp_path):
    pixels = noise(4, 120, 120)
    pixels[:, 0, :5] = 0
    pixels[:, 40:80, 40:80] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", GeosamWarning)
        assert np.isfinite(values_of(write(tmp_path / "a.tif", pixels))).all()


def test_a_frame_is_found_in_a_scene_too_large_to_read(tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.raster.validity._FULL_READ_PX", 100)
    path, outside = framed(tmp_path / "a.tif")
    with pytest.warns(GeosamWarning):
        assert np.isnan(values_of(path)[:, outside]).all()


def test_a_frame_in_files_of_one_band_each_is_one_frame(tmp_path):
    path, outside = framed(tmp_path / "a.tif")
    pixels = stored(path)
    pixels[0, 100, 100] = 0
    files = {
        role: str(write(tmp_path / f"{role}.tif", pixels[i : i + 1]))
        for i, role in enumerate(("red", "green", "nir"))
    }
    with pytest.warns(GeosamWarning):
        values = values_of([], bands=files)
    assert np.isnan(values[:, outside]).all()
    assert values[0, 100, 100] == 0


# ---- coarser and finer grids


def zoomed(geobox, factor):
    shape = tuple(-(-size // factor) for size in geobox.shape)
    return GeoBox(tuple(int(s) for s in shape), geobox.affine @ Affine.scale(factor), geobox.crs)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_coarser_grid_holds_the_mean_of_valid_pixels(tmp_path, grid):
    pixels = noise(3, 60, 90, dtype="float32")
    pixels[:, :31, :17] = -9999
    path = write(tmp_path / "a.tif", pixels, nodata=-9999, transform=GRIDS[grid])
    values = values_of(path, geobox=zoomed(open_scene(path).odc.geobox, 6), chunks=7)
    pixels[pixels == -9999] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmean(pixels.reshape(3, 10, 6, 15, 6), axis=(2, 4))
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_fractional_zoom_equals_gdals_average(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 60, 90, dtype="float32"))
    geobox = zoomed(open_scene(path).odc.geobox, 2.5)
    expected = stored(path, out_shape=(3, *geobox.shape), resampling=Resampling.average)
    np.testing.assert_allclose(values_of(path, geobox=geobox), expected, rtol=1e-4)


def test_chunks_of_a_coarser_or_finer_grid_show_no_seams(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 60, 90, dtype="float32"))
    for factor in (2.5, 7, 0.4):
        geobox = zoomed(open_scene(path).odc.geobox, factor)
        small, whole = (values_of(path, geobox=geobox, chunks=n) for n in (5, 1000))
        np.testing.assert_allclose(small, whole, rtol=1e-5)


def test_a_coarser_grid_is_read_from_overviews(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 64, 96, dtype="float32"))
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2, 4, 8], Resampling.average)
        expected = stored(path).reshape(3, 8, 8, 12, 8).mean(axis=(2, 4))
    geobox = zoomed(open_scene(path).odc.geobox, 8)
    np.testing.assert_allclose(values_of(path, geobox=geobox), expected, rtol=1e-3)
    with rasterio.open(path, "r+", overview_level=2) as overview:
        assert overview.shape == (8, 12)
    with rasterio.open(path, "r+") as target:
        target.write(np.zeros((3, 64, 96), np.float32))
    np.testing.assert_allclose(values_of(path, geobox=geobox, frame="keep"), expected, rtol=1e-3)


def test_a_finer_grid_is_interpolated_and_keeps_validity(tmp_path):
    row, col = np.indices((20, 30), dtype=np.float32)
    plane = np.stack([3 * row + col, row - 2 * col, 7 + 0 * row])
    path = write(tmp_path / "a.tif", plane, nodata=None)
    geobox = zoomed(open_scene(path).odc.geobox, 0.25)
    values = values_of(path, geobox=geobox)
    fine_row, fine_col = (np.indices((80, 120)) + 0.5) / 4 - 0.5
    expected = np.stack([3 * fine_row + fine_col, fine_row - 2 * fine_col, 7 + 0 * fine_row])
    inner = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(values[inner], expected[inner], atol=1e-3)
    assert np.isfinite(values).all()


def test_north_up_is_read_from_south_up(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 20, 30), transform=SOUTH_UP)
    flipped = GeoBox((20, 30), Affine(10, 0, 500_000, 0, -10, 4_000_200), UTM)
    np.testing.assert_array_equal(values_of(path, geobox=flipped), stored(path)[:, ::-1])


@pytest.mark.parametrize("chunks", [16, 1000])
def test_another_crs_is_warped_without_seams(tmp_path, chunks):
    row, col = np.indices((80, 80), dtype=np.float32)
    path = write(tmp_path / "a.tif", np.stack([row, col, row + col]))
    whole = open_scene(path).odc.geobox
    target = GeoBox.from_bbox(
        whole.extent.buffer(-100).to_crs("EPSG:4326").boundingbox, "EPSG:4326", resolution=1e-4
    )
    values = values_of(path, geobox=target, chunks=chunks)
    x, y = (target.affine @ (i + 0.5, j + 0.5) for i, j in [(5, 9)]).__next__()
    from pyproj import Transformer

    east, north = Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(x, y)
    col_at, row_at = ~whole.affine @ (east, north)
    np.testing.assert_allclose(values[:2, 9, 5], [row_at - 0.5, col_at - 0.5], atol=0.15)
    np.testing.assert_allclose(values, values_of(path, geobox=target, chunks=37), atol=0.15)


def test_a_preview_is_small_whole_and_in_memory(tmp_path):
    pixels = noise(3, 300, 500)
    source = inspect_scene(write(tmp_path / "a.tif", pixels))
    small = preview(source, max_px=64)
    assert max(small.shape[1:]) <= 64
    assert isinstance(small.data, np.ndarray)
    np.testing.assert_allclose(small.mean(), pixels.mean(), rtol=0.01)


def test_a_scene_without_valid_pixels_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((3, 20, 20), np.uint8), nodata=0)
    with pytest.raises(InputError, match="has no valid pixel, all of it is nodata: check"):
        preview(inspect_scene(path))


def test_an_array_is_made_coarser_like_a_file(tmp_path):
    pixels = noise(3, 50, 70, dtype="float32")
    pixels[:, :9, :9] = np.nan
    path = write(tmp_path / "a.tif", pixels, transform=NORTH_UP @ Affine.translation(3, 1))
    scene = open_scene(path, chunks=16)
    coarse = coarsen(scene, 4)
    assert coarse.dims == scene.dims
    expected = values_of(path, geobox=coarse.odc.geobox)
    np.testing.assert_allclose(coarse.values, expected, rtol=1e-5)


# ---- one file a band


def band_files(folder, **options):
    """10 m red and near infrared, 20 m swir1 that is the mean of a smooth surface."""
    row, col = np.indices((40, 60), dtype=np.float32)
    surface = (1000 + 5 * row + 3 * col)[None]
    coarse = surface.reshape(1, 20, 2, 30, 2).mean(axis=(2, 4))
    return surface, {
        "red": str(write(folder / "B04.tif", surface, **options)),
        "nir": str(write(folder / "B08.tif", surface + 1, **options)),
        "swir1": str(write(folder / "B11.tif", coarse, transform=NORTH_UP @ Affine.scale(2), **options)),
    }  # fmt: skip


def test_one_file_a_band_comes_to_the_finest_grid(tmp_path):
    surface, files = band_files(tmp_path)
    source = inspect_scene([], bands=files)
    scene = read(source, chunks=16)
    assert list(scene.band.values) == ["red", "nir", "swir1"]
    assert scene.odc.geobox.affine == NORTH_UP
    np.testing.assert_array_equal(scene.values[0], surface[0])
    np.testing.assert_allclose(scene.values[2, 1:-1, 1:-1], surface[0, 1:-1, 1:-1], rtol=1e-5)
    assert source.sentence == "Bands: red=B04.tif, nir=B08.tif, swir1=B11.tif (one file a band)"


def test_the_same_bands_are_given_as_text_and_named_twice(tmp_path):
    _, files = band_files(tmp_path)
    text = ",".join(f"{role}={path}" for role, path in files.items())
    assert values_of(list(files.values()), bands=text).shape == (3, 40, 60)


def test_a_dark_pixel_in_a_file_of_one_band_is_a_value(tmp_path):
    surface, files = band_files(tmp_path, nodata=0)
    dark = surface.copy()
    dark[:, 5, 5] = dark[:, 0, 0] = 0
    write(Path(files["red"]), dark, nodata=0)
    surface = surface.copy()
    surface[:, 0, 0] = 0
    write(Path(files["nir"]), surface, nodata=0)
    values = values_of([], bands={role: files[role] for role in ("red", "nir")})
    assert values[0, 5, 5] == 0
    assert np.isnan(values[:, 0, 0]).all()
    assert np.isnan(values).sum() == 2


def test_files_and_indices_do_not_mix(tmp_path):
    _, files = band_files(tmp_path)
    with pytest.raises(BandError, match="mixes files and indices"):
        open_scene([], bands={"red": files["red"], "nir": 2})


def test_a_file_of_several_bands_is_not_one_band(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 10, 10))
    with pytest.raises(BandError, match=r"a.tif \(red\) has 3 bands"):
        open_scene([], bands={"red": path, "nir": path})


# ---- several files


def quarters(folder, pixels, overlap=0, **options):
    paths = []
    for name, row, col in (("a", 0, 0), ("b", 0, 30), ("c", 20, 0), ("d", 20, 30)):
        top, left = max(row - overlap, 0), max(col - overlap, 0)
        part = pixels[:, top : row + 20, left : col + 30]
        at = NORTH_UP @ Affine.translation(left, top)
        paths.append(write(folder / f"{name}.tif", part, transform=at, **options))
    return paths


@pytest.mark.parametrize("overlap", [0, 2])
def test_four_files_are_one_scene(tmp_path, overlap):
    pixels = noise(4, 40, 60)
    scene = open_scene(quarters(tmp_path, pixels, overlap), chunks=17)
    assert scene.odc.geobox.affine == NORTH_UP
    np.testing.assert_array_equal(scene.values, pixels)


def test_four_files_are_made_coarser_as_one(tmp_path):
    pixels = noise(4, 40, 60)
    paths = quarters(tmp_path, pixels)
    geobox = zoomed(open_scene(paths).odc.geobox, 8)
    expected = pixels[:, :, :56].reshape(4, 5, 8, 7, 8).mean(axis=(2, 4))
    np.testing.assert_allclose(values_of(paths, geobox=geobox)[:, :, :7], expected, rtol=1e-5)


def test_a_gap_in_one_file_is_filled_from_the_other(tmp_path):
    first, second = noise(3, 20, 30), noise(3, 20, 30, seed=1)
    first[:, :4] = 0
    paths = [write(tmp_path / f"{i}.tif", p, nodata=0) for i, p in enumerate((first, second))]
    values = values_of(paths, mosaic="first")
    np.testing.assert_array_equal(values[:, :4], second[:, :4])
    np.testing.assert_array_equal(values[:, 4:], first[:, 4:])
    np.testing.assert_array_equal(values_of(paths, mosaic="last"), second)


def test_several_dates_of_one_place_are_refused(tmp_path):
    paths = [write(tmp_path / f"{i}.tif", noise(3, 20, 30)) for i in (2009, 2014)]
    with pytest.raises(InputError, match=r"2009.tif and .*2014.tif share 100 %.* -o DIR.*--mosaic"):
        open_scene(paths)


def test_a_mosaic_needs_one_crs_resolution_and_band_count(tmp_path):
    first = write(tmp_path / "a.tif", noise(3, 20, 30))
    away = NORTH_UP @ Affine.translation(0, 20)
    other = {
        "in EPSG:32619": {"crs": "EPSG:32619", "transform": away},
        "pixels of 5 x -5": {"transform": away @ Affine.scale(0.5)},
        "4 bands": {"transform": away},
    }
    for message, options in other.items():
        bands = 4 if message == "4 bands" else 3
        second = write(tmp_path / "b.tif", noise(bands, 20, 30), **options)
        with pytest.raises(InputError, match=message):
            open_scene([first, second])


# ---- what cannot be used


def refused(match, path, error=InputError, **options):
    with pytest.raises(error, match=match) as caught:
        open_scene(path, **options)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    refused("nothing.tif does not exist: check", tmp_path / "nothing.tif")


def test_a_text_file_is_no_raster(tmp_path):
    (tmp_path / "a.tif").write_text("hello")
    refused("a.tif is not a raster that GDAL can open", tmp_path / "a.tif")


def test_a_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 100, 100), compress="deflate")
    path.write_bytes(path.read_bytes()[:-2000])
    refused("a.tif .*(truncated|GDAL can open)", path)


def test_a_file_damaged_in_the_middle_is_named_when_it_is_read(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 256, 256), compress="deflate", tiled=True, blockxsize=64, blockysize=64)  # fmt: skip
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
    path.write_bytes(content)
    scene = open_scene(path, frame="keep")
    with pytest.raises(InputError, match=r"a.tif cannot be read .* truncated or damaged"):
        scene.compute()


def test_a_scene_without_crs_asks_for_one(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 20, 20), crs=None)
    refused("has no CRS: give it with --crs", path)
    assert open_scene(path, crs="EPSG:32620").odc.geobox.crs == "EPSG:32620"
    refused("CRS 'nonsense' is not known", path, crs="nonsense")


def test_a_local_crs_is_refused(tmp_path):
    refused("has a local CRS", write(tmp_path / "a.tif", noise(4, 20, 20), crs='LOCAL_CS["x",UNIT["m",1]]'))  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_without_a_grid_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 20, 20), transform=Affine.identity())
    refused("is not georeferenced .it has no geotransform", path)


def test_ground_control_points_alone_are_refused(tmp_path):
    points = [rasterio.control.GroundControlPoint(r, c, c, -r) for r, c in ((0, 0), (0, 9), (9, 0))]
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=10, height=10, count=3, dtype="uint8",
        gcps=points, crs=UTM,
    ):  # fmt: skip
        pass
    refused("only ground control points", tmp_path / "a.tif")


def test_one_pixel_is_no_scene(tmp_path):
    refused("has 1 x 1 pixels, and a scene needs", write(tmp_path / "a.tif", noise(3, 1, 1)))


def test_one_band_is_no_scene(tmp_path):
    refused("a.tif has one band", write(tmp_path / "a.tif", noise(1, 9, 9)), BandError)


def test_complex_numbers_are_refused(tmp_path):
    refused("complex numbers", write(tmp_path / "a.tif", noise(2, 9, 9).astype(np.complex64)))


def test_bands_that_do_not_exist_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 20, 20))
    refused("nir=9 does not exist: use an index from 1 to 4", path, BandError, bands="nir=9")
    refused("'purple' is not known", path, BandError, bands={"purple": 1})


# ---- what is said of a scene


def test_a_fingerprint_follows_the_pixels_and_not_the_path(tmp_path):
    pixels = noise(4, 90, 90)
    first = fingerprint(inspect_scene(write(tmp_path / "a.tif", pixels)))
    assert fingerprint(inspect_scene(write(tmp_path / "b.tif", pixels))) == first
    assert fingerprint(inspect_scene(tmp_path / "b.tif", scale=2)) != first
    pixels[0, 45, 45] += 1
    assert fingerprint(inspect_scene(write(tmp_path / "c.tif", pixels))) != first


def test_a_fingerprint_follows_all_of_a_mask_of_valid_pixels(tmp_path):
    scene = write(tmp_path / "a.tif", noise(4, 400, 400))
    mask = np.ones((1, 400, 400), np.uint8)
    seen = set()
    for name, hole in (("all", 0), ("hole", 20), ("copy", 20)):
        mask[:, 120 : 120 + hole, 120 : 120 + hole] = 0
        path = write(tmp_path / f"{name}.tif", mask)
        seen.add(fingerprint(inspect_scene(scene, valid=str(path))))
    assert len(seen) == 2
    assert fingerprint(inspect_scene(scene, valid=f"{path}:0")) not in seen
    assert fingerprint(inspect_scene(scene)) not in seen


def test_a_scale_of_nothing_is_no_scale(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 40, 40))
    with rasterio.open(path, "r+") as file:
        file.scales = (0.0,) * 4
    assert inspect_scene(path).parts[0].scales == (1.0,) * 4


def test_a_description_is_ready_for_json(tmp_path):
    import json

    path = write(tmp_path / "a.tif", noise(4, 90, 80), nodata=0)
    facts = json.loads(json.dumps(describe(inspect_scene(path))))
    assert (facts["height"], facts["width"], facts["dtype"]) == (90, 80, "uint16")
    assert (facts["nodata"], facts["crs"]) == (0, UTM)


def test_a_coarse_mask_is_brought_to_any_grid(tmp_path):
    mask = np.zeros((1, 20, 30), np.uint8)
    mask[:, 5:9] = 1
    path = write(tmp_path / "m.tif", mask)
    geobox = zoomed(GeoBox((20, 30), NORTH_UP, UTM), 0.5)
    opened = read_coarse(path, geobox, chunks=11)
    np.testing.assert_array_equal(opened.values, mask[0].repeat(2, 0).repeat(2, 1) > 0)


def test_a_huge_scene_opens_at_once(tmp_path):
    path = tmp_path / "huge.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=100_000, height=100_000, count=3, dtype="uint8", crs=UTM,
        transform=NORTH_UP, tiled=True, sparse_ok=True, bigtiff="yes", nodata=0,
    ):  # fmt: skip
        pass
    start = time.perf_counter()
    scene = open_scene(path)
    assert time.perf_counter() - start < 2
    assert scene[:, 50_000:50_010, 7:9].compute().isnull().all()


ROLES = "red=1,green=2,blue=3"


def test_what_was_never_written_is_known_to_be_nodata_without_being_read(tmp_path, monkeypatch):
    pixels = noise(3, 256, 256)
    path = tmp_path / "sparse.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1024, height=1024, count=3, dtype=pixels.dtype, crs=UTM,
        transform=NORTH_UP, tiled=True, blockxsize=256, blockysize=256, sparse_ok=True, nodata=0,
    ) as target:  # fmt: skip
        target.write(pixels, window=Window(512, 256, 256, 256))
    source = inspect_scene(path, bands=ROLES)
    there = np.zeros((4, 4), bool)
    for row in range(4):
        for col in range(4):
            block = source.geobox[row * 256 + 5 : row * 256 + 250, col * 256 + 5 : col * 256 + 250]
            there[row, col] = not is_void(source, block)
    assert np.argwhere(there).tolist() == [[1, 2]]
    assert not is_void(inspect_scene(path, bands=ROLES, nodata=7), source.geobox[0:99, 0:99])
    small = preview(source, 64)
    expected = open_scene(path, bands=ROLES).values.reshape(3, 64, 16, 64, 16).mean((2, 4))
    np.testing.assert_allclose(small.values, expected, rtol=1e-5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real scenes is not here")
@pytest.mark.parametrize("path", sorted(SHARED.glob("*.tif")), ids=lambda path: path.stem)
def test_real_scenes_open(path):
    bands = {"irrawaddy_s2": "blue=3,green=4,red=5,nir=9",
             "olinda_l7": "blue=1,green=2,red=3,nir=4,swir1=5,swir2=6"}.get(path.stem)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeosamWarning)
        source = inspect_scene(path, bands=bands)
    with rasterio.open(path) as file:
        window = ((100, 164), (100, 164))
        expected = file.read(window=window).astype(np.float32)
        valid = file.dataset_mask(window=window) > 0
    values = read(source, geobox=source.geobox[100:164, 100:164]).values
    np.testing.assert_array_equal(values[:, valid], expected[:, valid])


def test_threads_do_not_share_a_handle(tmp_path):
    from geosam.raster.files import _handle

    path = str(write(tmp_path / "a.tif", noise(3, 9, 9)))
    mine, other = _handle(path, None), []
    thread = threading.Thread(target=lambda: other.append(_handle(path, None)))
    thread.start()
    thread.join()
    assert _handle(path, None) is mine
    assert other[0] is not mine


def test_blocks_are_cached_between_the_pixels_of_a_thinned_out_read(tmp_path):
    path = write(tmp_path / "a.tif", noise(4, 400, 600), compress="deflate")
    start = time.process_time()
    inspect_scene(path)
    assert time.process_time() - start < 1


def test_of_a_file_the_blocks_beside_one_another_are_kept_in_memory(tmp_path, monkeypatch):
    from geosam.raster.files import CACHE_BYTES, cache_for

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    side, ground = 512, {"crs": UTM, "transform": NORTH_UP, "nodata": 0, "sparse_ok": True}

    def kept(width, dtype, **layout):
        path = tmp_path / f"{width}_{dtype}_{len(layout)}.tif"
        shape = {"width": width, "height": 9000, "count": 4, "dtype": dtype}
        with rasterio.open(path, "w", driver="GTiff", **shape, **ground, **layout):
            pass
        return cache_for(inspect_scene(path, bands=ROLES).parts[0].file)

    tiles = {"tiled": True, "blockxsize": side, "blockysize": side}
    # Of tiles, as many as a piece of work of 1,100 px may touch side by side, four bands, two threads.
    assert kept(9000, "uint16", **tiles) == 4 * side**2 * 4 * 2 * 2
    assert kept(9000, "float64", **tiles) == CACHE_BYTES
    assert kept(9000, "uint8") == 16 << 20


@pytest.fixture
def few_pixels(monkeypatch):
    """A large scene is one of more than 400 px square, looked at in cells of 64."""
    monkeypatch.setattr("geosam.raster.decimated.MOST_READ_PX", 400**2)
    monkeypatch.setattr("geosam.raster.decimated.CELL_PX", 64)


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 64, "blockysize": 64}, {}])
def test_of_a_large_scene_without_overviews_a_sample_is_looked_at(
    tmp_path, few_pixels, monkeypatch, layout
):
    rows, cols = np.mgrid[:1000, :1100]
    water = np.abs(rows - 500 - 200 * np.sin(cols / 150)) < 120
    pixels = np.where(water, 40, 120) + np.random.default_rng(0).integers(0, 30, (3, 1000, 1100))
    path = write(tmp_path / "a.tif", pixels.astype(np.uint8), **layout)
    seen = []
    load = geosam.raster.decimated.load_pixels

    def counted(source, grid, tell):
        seen.append(100 * grid.shape[0] * grid.shape[1])
        return load(source, grid, tell)

    monkeypatch.setattr("geosam.raster.decimated.load_pixels", counted)
    source = inspect_scene(path)
    small, whole = preview(source, max_px=110), preview(source, max_px=110, whole=True)
    assert small.attrs["sampled"] and "sampled" not in whole.attrs
    assert small.shape == whole.shape and np.isfinite(small.values).all()
    assert 0 < sum(seen) < 2 * 400**2 < 0.3 * 1000 * 1100
    for percent in (2, 50, 98):
        found, wanted = (np.percentile(values, percent) for values in (small, whole))
        assert abs(found - wanted) < 8
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2, 4, 8])
    assert "sampled" not in preview(inspect_scene(path), max_px=110).attrs


def test_a_sample_leaves_out_what_was_never_stored_and_finds_the_rest(tmp_path, few_pixels):
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1024, height=1024, count=3, dtype="uint8", crs=UTM,
        transform=NORTH_UP, tiled=True, blockxsize=64, blockysize=64, sparse_ok=True, nodata=0,
    ) as target:  # fmt: skip
        target.write(noise(3, 128, 1024), window=Window(0, 640, 1024, 128))
    small = preview(inspect_scene(path), 64)
    there = np.isfinite(small.values).all(axis=0)
    assert there[40:48].all() and not there[:40].any() and not there[48:].any()
    with rasterio.open(path, "r+") as target:  # stored, though it is nodata
        target.write(np.zeros((3, 512, 1024), np.uint8), window=Window(0, 0, 1024, 512))
        target.write(np.zeros((3, 128, 1024), np.uint8), window=Window(0, 640, 1024, 128))
        target.write(noise(3, 8, 8), window=Window(1016, 3, 8, 8))
    found = preview(inspect_scene(path), 64)
    assert "sampled" not in found.attrs and np.isfinite(found.values).any()
