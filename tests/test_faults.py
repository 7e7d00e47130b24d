"""A block of a file that cannot be read is nodata, a failed tile, and exit status 1."""

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.windows import Window

import geosam
from geosam.errors import InputError
from geosam.testing import FakeModel, write_scene


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A scene of sixteen stored blocks."""
    folder = tmp_path_factory.mktemp("scene")
    drawn, _ = write_scene(folder, shape=(512, 512), seed=1)
    stored = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    rasterio.shutil.copy(drawn, folder / "blocks.tif", driver="GTiff", **stored)
    return folder / "blocks.tif"


@pytest.fixture
def scene(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.raster.faults.RETRY_S", 0.01)
    return Path(shutil.copy(whole, tmp_path / "scene.tif"))


def spoil(path, row, col):
    """Overwrite one stored block of a file with something that is no deflate stream."""
    with rasterio.open(path) as source:
        offset = int(source.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1))
        size = int(source.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1))
        height, width = source.block_shapes[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)
    return Window(col * width, row * height, width, height)


def test_a_damaged_block_is_nodata_and_its_tiles_failed(scene, tmp_path):
    whole = geosam.run(scene, tmp_path / "a.gpkg", model=FakeModel(), mask=tmp_path / "a.tif")
    window = spoil(scene, 1, 1)
    with rasterio.open(scene) as source, pytest.raises(rasterio.errors.RasterioError):
        source.read(window=window)
    report = geosam.run(scene, tmp_path / "b.gpkg", model=FakeModel(), mask=tmp_path / "b.tif")
    assert (whole.exit_status, report.exit_status) == (0, 1)
    masks = [rasterio.open(tmp_path / f"{name}.tif").read(1) for name in "ab"]
    rows, cols = window.toslices()
    lost = np.zeros(masks[0].shape, bool)
    lost[rows, cols] = True
    assert ((masks[1] == 255) == ((masks[0] == 255) | lost)).all()
    far = np.ones(masks[0].shape, bool)
    far[rows.start - 64 : rows.stop + 64, cols.start - 64 : cols.stop + 64] = False
    assert (masks[0] == masks[1])[far].mean() > 0.99
    tiles = gpd.read_file(tmp_path / "b.gpkg", layer="tiles")
    failed = tiles[tiles.status == "failed"]
    with rasterio.open(scene) as source:
        box = shapely.box(*source.window_bounds(window))
    expected = shapely.area(shapely.intersection(tiles.geometry.values, box)) > 0
    assert set(failed.tile) == set(tiles.tile[expected])
    assert failed.error.str.contains("scene.tif").all()
    assert report.tiles["failed"] == len(failed) > 0


def test_a_damaged_block_is_nodata_where_the_model_sees_coarser_pixels(scene, tmp_path):
    with rasterio.open(scene) as source:
        coarser = 2 * source.res[0]
    options = {"model": FakeModel(), "resolution": coarser}
    geosam.run(scene, tmp_path / "a.gpkg", mask=tmp_path / "a.tif", **options)
    rows, cols = spoil(scene, 1, 1).toslices()
    report = geosam.run(scene, tmp_path / "b.gpkg", mask=tmp_path / "b.tif", **options)
    assert report.exit_status == 1
    before, after = (rasterio.open(tmp_path / f"{name}.tif").read(1) for name in "ab")
    lost = (after == 255) & (before != 255)
    assert lost[rows, cols].sum() == (before[rows, cols] != 255).sum()
    # What cannot be read is cut at 64 of the model's pixels, and the block is as large as that.
    assert lost.sum() <= 4 * lost[rows, cols].sum()


def test_a_block_that_can_be_read_at_the_second_try_is_no_fault(scene, tmp_path, monkeypatch):
    import geosam.raster.scene

    read, failed = geosam.raster.scene.read_block, set()

    def flaky(parts, n, geobox, valid):
        if geobox not in failed:
            failed.add(geobox)
            raise InputError("The network is away.")
        return read(parts, n, geobox, valid)

    monkeypatch.setattr("geosam.raster.scene.read_block", flaky)
    report = geosam.run(scene, tmp_path / "a.gpkg", model=FakeModel())
    assert failed
    assert report.exit_status == 0


def test_a_file_of_which_much_cannot_be_read_is_refused(scene, tmp_path):
    spoil(scene, 1, 1)
    spoil(scene, 0, 1)
    with pytest.raises(InputError, match=r"scene\.tif"):
        geosam.run(scene, tmp_path / "a.gpkg", model=FakeModel())
    assert not (tmp_path / "a.gpkg.partial").exists()
