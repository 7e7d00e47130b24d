"""Rasters to files: streamed, cloud optimised, whole or not at all."""

import os
import threading

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.shutil import copy as copy_raster

from geosam.errors import InputError, OptionError, OutputError
from geosam.export.cog import write_raster

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)
ROTATED = Affine.translation(500_000, 4_000_000) @ Affine.rotation(30) @ Affine.scale(10, -10)


def raster(values, transform=NORTH_UP, crs="EPSG:32618", bands=("a", "b")):
    geobox = GeoBox(values.shape[-2:], transform, crs)
    coords = xr_coords(geobox, always_yx=True)
    if values.ndim == 3:
        coords["band"] = list(bands)
    return xr.DataArray(values, coords, ("band", "y", "x")[-values.ndim :])


def chunked(values, size=256):
    return da.from_array(values, chunks=(*values.shape[:-2], size, size))


def water(shape=(700, 900)):
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    values[:90, :40] = np.nan
    return values


@pytest.mark.parametrize("lazy", [True, False])
def test_a_mask_is_0_1_and_255(tmp_path, lazy):
    values = np.where(np.isnan(water()), np.nan, water() > 0.5).astype(np.float32)
    write_raster(raster(chunked(values) if lazy else values), tmp_path / "m.tif", kind="mask")
    with rasterio.open(tmp_path / "m.tif") as file:
        assert (file.dtypes, file.nodata) == (("uint8",), 255)
        np.testing.assert_array_equal(file.read(1), np.where(np.isnan(values), 255, values))


def test_a_mask_may_be_boolean(tmp_path):
    values = water() > 0.5
    write_raster(raster(chunked(values)), tmp_path / "m.tif", kind="mask")
    with rasterio.open(tmp_path / "m.tif") as file:
        np.testing.assert_array_equal(file.read(1), values)


def test_a_probability_has_254_steps_and_a_scale(tmp_path):
    values = water()
    values[500, 500], values[501, 501] = 0, 1
    write_raster(raster(chunked(values)), tmp_path / "p.tif", kind="probability")
    with rasterio.open(tmp_path / "p.tif") as file:
        stored = file.read(1, masked=True)
        assert (file.dtypes, file.nodata) == (("uint8",), 255)
        np.testing.assert_array_equal(stored.mask, np.isnan(values))
        assert (stored[500, 500], stored[501, 501]) == (0, 254)
        scaled = stored.filled(0) * file.scales[0] + file.offsets[0]
        np.testing.assert_allclose(scaled, np.nan_to_num(values), atol=0.5 / 254 + 1e-6)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_other_rasters_are_stored_as_they_are(tmp_path, transform):
    values = np.stack([water(), 5 * water()])
    array = raster(chunked(values), transform)
    write_raster(array, tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), values)
        assert file.dtypes == ("float32", "float32")
        assert np.isnan(file.nodata)
        assert GeoBox.from_rio(file).affine.almost_equals(transform, 1e-9)
        assert file.crs.to_epsg() == 32618


def test_a_raster_in_degrees_keeps_its_grid(tmp_path):
    transform = Affine(1e-4, 0, -74.7, 0, -1e-4, -8.3)
    write_raster(raster(chunked(water()), transform, "EPSG:4326"), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.transform.almost_equals(transform, 1e-12)
        assert file.crs.to_epsg() == 4326


def test_the_file_is_cloud_optimised_and_says_who_wrote_it(tmp_path):
    write_raster(raster(chunked(water())), tmp_path / "p.tif", kind="probability")
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2]
        assert "geosam" in file.tags()["TIFFTAG_SOFTWARE"]


def test_overviews_of_a_mask_hold_no_new_values(tmp_path):
    write_raster(raster(chunked(water((1500, 1500)) > 0.5)), tmp_path / "m.tif", kind="mask")
    with rasterio.open(tmp_path / "m.tif", overview_level=1) as overview:
        assert set(np.unique(overview.read(1))) == {0, 1}


@pytest.mark.parametrize("kind", ["mask", "probability"])
def test_overviews_are_those_that_the_cog_driver_makes(tmp_path, kind):
    values = water((1304, 2704))
    values[:, 900:1500] = np.nan
    write_raster(raster(chunked(values)), tmp_path / "a.tif", kind=kind)
    with rasterio.open(tmp_path / "a.tif") as file:
        profile, levels = file.profile, file.overviews(1)
        profile |= {"driver": "GTiff", "tiled": True}
        with rasterio.open(tmp_path / "plain.tif", "w", **profile) as plain:
            plain.write(file.read())
    how = {"mask": "NEAREST", "probability": "AVERAGE"}[kind]
    copy_raster(
        tmp_path / "plain.tif",
        tmp_path / "b.tif",
        driver="COG",
        blocksize=512,
        overview_resampling=how,
    )
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.overviews(1) == levels == [2, 4, 8]
    for level in range(3):
        ours, theirs = (
            rasterio.open(tmp_path / name, overview_level=level) for name in ("a.tif", "b.tif")
        )
        with ours, theirs:
            np.testing.assert_array_equal(ours.read(1), theirs.read(1))


def test_rows_are_laid_out_in_bands_that_hold_few_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.export.cog.BAND_BLOCKS", 5)
    values = water((700, 900))
    write_raster(raster(chunked(values)), tmp_path / "few.tif")
    with rasterio.open(tmp_path / "few.tif") as file:
        np.testing.assert_array_equal(file.read(1), values)


def test_each_block_is_computed_once(tmp_path):
    calls, lock = 0, threading.Lock()

    def block(block_info=None):
        nonlocal calls
        with lock:
            calls += 1
        return np.zeros(tuple(b - a for a, b in block_info[None]["array-location"]), np.float32)

    chunks = ((256,) * 8, (256,) * 8)
    data = da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    write_raster(raster(data), tmp_path / "p.tif", kind="probability")
    assert calls == 64


def test_an_existing_file_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "p.tif"
    write_raster(raster(water()), path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write_raster(raster(water() * 2), path)
    assert path.read_bytes() == before
    write_raster(raster(water() * 2), path, overwrite=True)
    assert path.read_bytes() != before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match="nowhere does not exist"):
        write_raster(raster(water()), tmp_path / "nowhere" / "p.tif")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="is not writable"):
        write_raster(raster(water()), tmp_path / "p.tif")


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(OptionError, match="'masks' is unknown"):
        write_raster(raster(water()), tmp_path / "p.tif", kind="masks")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_nothing_half_written(tmp_path, overwrite):
    path = tmp_path / "p.tif"
    if overwrite:
        path.write_text("before")

    def fail(block, block_info=None):
        if block_info[0]["chunk-location"] == (1, 1):
            raise InputError("the scene is damaged")
        return block

    broken = da.map_blocks(fail, chunked(water()), dtype=np.float32, meta=np.empty((0, 0)))
    with pytest.raises(InputError, match="damaged"):
        write_raster(raster(broken), path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == (["p.tif"] if overwrite else [])
    assert not overwrite or path.read_text() == "before"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geosam.export.cog.copy_raster", full)
    with pytest.raises(OutputError, match=r"disk is full while writing .*p\.tif"):
        write_raster(raster(water()), tmp_path / "p.tif")
    assert list(tmp_path.iterdir()) == []
