"""Pixels on a coarser grid are kept once, and are those of the files; masks tell where there are none."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

import geosam.raster.parts
from geosam.clock import Clock
from geosam.crew import Threads
from geosam.durable import Durable
from geosam.pixels import is_read_often, kept_bytes
from geosam.raster import inspect_scene
from geosam.raster.scene import is_void, read_void
from geosam.types import Window
from geosam.views import view_source
from geosam.windows import void_of

SHAPE = (700, 530)
"""Neither is a multiple of the three pixels that one of the model's has here."""


def write(path, pixels, **profile):
    """Write (band, y, x) with pixels of 0.1 m whose grid does not begin at a multiple of three from the CRS origin."""
    mask, alpha = profile.pop("mask", None), profile.pop("alpha", None)
    bands = len(pixels) + (alpha is not None)
    profile |= {"count": bands, "height": SHAPE[0], "width": SHAPE[1], "dtype": pixels.dtype}
    transform = Affine(0.1, 0, 500_000.1, 0, -0.1, 4_000_000.2)
    grid = {"crs": "EPSG:32633", "transform": transform, "tiled": True}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", **grid, **profile) as target,
    ):
        target.write(pixels, list(range(1, len(pixels) + 1)))
        if alpha is not None:
            target.write(alpha, bands)
            target.colorinterp = (
                ColorInterp.red,
                ColorInterp.green,
                ColorInterp.blue,
                ColorInterp.alpha,
            )
        if mask is not None:
            target.write_mask(mask)
    return path


def colours(dtype="uint8"):
    return np.random.default_rng(0).integers(1, 250, (3, *SHAPE)).astype(dtype)


def with_pixels(path, folder, monkeypatch, block_px=64):
    monkeypatch.setattr("geosam.durable.BLOCK_PX", block_px)
    views = view_source(inspect_scene(path), wanted_m=0.3)
    return views, Durable(folder, Threads(2), Clock(), views).with_pixels().views


@pytest.mark.parametrize(("dtype", "off"), [("uint8", 0.07), ("uint16", 0)])
@pytest.mark.parametrize(
    "where", [(0, 0, 40, 50), (61, 70, 80, 90), (190, 120, 44, 57), (7, 3, 1, 1)]
)
def test_kept_pixels_are_those_of_the_file(tmp_path, monkeypatch, where, dtype, off):
    hole = np.full(SHAPE, 255, np.uint8)
    hole[200:330, 100:310] = 0
    path = write(tmp_path / "scene.tif", colours(dtype), mask=hole)
    views, kept = with_pixels(path, tmp_path / "work", monkeypatch)
    part = views.grid()[Window(*where).slices()]
    mine, theirs = kept.around(part), views.around(part)
    assert mine.grids == theirs.grids
    for name in ("scene", "working", "wider"):
        found, expected = getattr(mine, name), getattr(theirs, name)
        assert found.odc.geobox == expected.odc.geobox
        assert found.attrs == expected.attrs
        # At half the resolution pixels at a hole's edge count as whole ones.
        near = 40 if name == "wider" else off
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        assert np.nanmax(np.abs(found - expected), initial=0) <= near
    np.testing.assert_array_equal(mine.void, void_of(theirs.scene))


def test_half_the_resolution_is_the_mean_of_what_is_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "scene.tif", colours("uint16"))
    views, kept = with_pixels(path, tmp_path / "work", monkeypatch)
    part = views.grid()[Window(30, 40, 100, 100).slices()]
    np.testing.assert_allclose(kept.around(part).wider, views.around(part).wider, rtol=1e-5)


def test_files_are_not_read_again(tmp_path, monkeypatch):
    path = write(tmp_path / "scene.tif", colours())
    views, kept = with_pixels(path, tmp_path / "work", monkeypatch)
    expected = views.working.values
    monkeypatch.setattr("geosam.raster.scene.read_block", None)
    looks = kept.around(views.grid())
    np.testing.assert_allclose(looks.working, expected, atol=0.07)
    assert np.isfinite(looks.wider).all()
    assert not looks.void.values.any()
    again = Durable(tmp_path / "work", Threads(2), Clock(), views).with_pixels()
    assert np.isfinite(again.views.around(views.grid()).working).all()


def test_only_what_is_coarser_than_the_scene_is_kept(tmp_path):
    source = inspect_scene(write(tmp_path / "scene.tif", colours()))
    often = [is_read_often(view_source(source, wanted_m=m)) for m in (0.05, 0.1, 0.2, 0.3)]
    assert often == [False, False, True, True]
    assert kept_bytes(view_source(source, wanted_m=0.1)) == 0
    height, width = view_source(source, wanted_m=0.3).grid().shape
    assert kept_bytes(view_source(source, wanted_m=0.3)) == 3 * 2 * height * width


def holed(value):
    pixels = colours()
    pixels[:, 50:90, 60:200] = value
    return pixels


def gapped():
    pixels = holed(77)
    pixels[1, 300:400, 60:200] = 77
    return pixels


def masked(value=255):
    mask = np.full(SHAPE, value, np.uint8)
    mask[100:400, :77] = 0
    return mask


CASES = {
    "nothing": {"pixels": colours(), "read": False},
    "a mask": {"pixels": colours(), "mask": masked(), "read": False},
    "alpha": {"pixels": colours(), "alpha": masked(), "read": False},
    "a gap in one band": {"pixels": gapped(), "nodata": 77, "read": True},
    "nodata": {"pixels": holed(0), "nodata": 0, "mask": None, "read": True},
    "not a number": {"pixels": np.where(masked(), colours("float32"), np.nan).astype("float32"), "read": True},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_void_is_where_no_band_has_a_pixel(tmp_path, monkeypatch, case):
    how = dict(CASES[case])
    reads = how.pop("read")
    source = inspect_scene(write(tmp_path / "scene.tif", **how))
    view = view_source(source, wanted_m=0.1)
    expected = void_of(view.scene).compute()
    assert expected.any() == (case != "nothing")
    raw, seen = geosam.raster.parts.read_raw, []
    monkeypatch.setattr("geosam.raster.parts.read_raw", lambda *a: seen.append(a[1]) or raw(*a))
    np.testing.assert_array_equal(view.void, expected)
    part = source.geobox[70:230, 11:500]
    np.testing.assert_array_equal(read_void(source, geobox=part), expected[70:230, 11:500])
    assert any(len(bands) == 3 for bands in seen) == reads


def test_a_block_without_data_is_not_made_for_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.durable.BLOCK_PX", 256)
    tiles = {"blockxsize": 256, "blockysize": 256, "sparse_ok": True, "nodata": 0, "tiled": True}
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 4_000_000)}
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1024, height=512, count=3, dtype="uint8", **grid, **tiles
    ) as target:
        target.write(
            np.full((3, 256, 256), 9, np.uint8), window=rasterio.windows.Window(0, 0, 256, 256)
        )
    source = inspect_scene(path)
    assert is_void(source, source.geobox[:256, 256:400])
    assert not is_void(source, source.geobox[:256, 255:400])
    views, made = view_source(source, wanted_m=10), []

    def step(looks):
        made.append(looks.grid().shape)
        return looks.working[0].fillna(255).astype("uint8")

    kept = Durable(tmp_path / "work", Threads(1), Clock(), views).raster(step, "values", margin=20)
    assert made == [(276, 276)]
    values = kept.lazy().values
    assert (values[:256, :256] == 9).all()
    assert (values == 255).sum() == values.size - 256 * 256
