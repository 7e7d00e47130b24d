"""A part looked at anew is the part of the whole, and no more of the scene is read for it."""

from dataclasses import dataclass

import dask.array as da
import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from test_asking import Clicked

import geosam
from geosam.anew import Anew, read_part
from geosam.coarse import network_mosaic
from geosam.decision import decide
from geosam.durable import Lazy, Tiling
from geosam.grids import geobox_of
from geosam.options import Options
from geosam.pipeline import prepare_own
from geosam.prompts.scene_prompts import ScenePrompts, polygon_mask
from geosam.stretch import Stretch
from geosam.tiles import TileGrid
from geosam.types import Window
from geosam.views import covering, view_array

RGB = ("red", "green", "blue")
CHUNK_PX = 256


@dataclass(frozen=True)
class Lopsided:
    """A network whose logits depend on where in its tile a pixel lies, and on all of the tile."""

    def predict(self, pixels):
        """Return (n, size, size) float32."""
        size = pixels.shape[-1]
        ramp = np.linspace(0, 1, size, dtype=np.float32)
        return pixels[:, 0] + ramp[:, None] * ramp + pixels.mean(axis=(1, 2, 3))[:, None, None]


def scene_of(pixels):
    geobox = GeoBox(pixels.shape[1:], Affine(10, 0, 600_070, 0, -10, 5_000_030), "EPSG:32633")
    coords = {"band": list(RGB), **xr_coords(geobox)}
    return xr.DataArray(pixels, coords=coords, dims=("band", *geobox.dimensions))


@pytest.fixture
def views():
    pixels = np.random.default_rng(0).random((3, 300, 340), np.float32)
    pixels[:, :40, :90] = np.nan
    return view_array(scene_of(pixels), 10)


@pytest.mark.parametrize("on", ["working", "wider"])
@pytest.mark.parametrize("window", [Window(120, 90, 70, 110), Window(0, 250, 33, 90)])
def test_logits_of_a_part_are_those_of_the_whole(views, window, on):
    def lay(looks):
        scene = getattr(looks, on)
        tiles = TileGrid(scene.odc.geobox, 32, 8)
        return network_mosaic(scene, [Stretch(RGB, (0,) * 3, (1,) * 3)], Lopsided(), tiles, 2)

    grid = TileGrid(getattr(views, on).odc.geobox, 32, 8)
    looks = views.around(views.working.odc.geobox[window.slices()])
    anew, whole = (
        keep.mosaic(lay, Tiling(grid, 2, on), "learned")(looks)
        for keep in (Anew(views.around, geobox_of(views.working)), Lazy(views))
    )
    assert anew.shape == getattr(looks, on).shape[1:]
    np.testing.assert_array_equal(anew.values, whole.values)


def test_a_step_sees_its_margin_and_gives_the_part(views):
    def step(looks):
        return looks.working.isel(band=0).rolling(x=21, center=True, min_periods=21).mean()

    box = views.working.odc.geobox[50:90, 100:180]
    anew = Anew(views.around, geobox_of(views.working)).raster(step, "mean", margin=10)(
        views.around(box)
    )
    np.testing.assert_allclose(anew.values, step(views).values[50:90, 100:180], rtol=1e-4)


def test_a_window_that_overhangs_the_scene_is_nodata_beyond_it(views):
    read = read_part(
        Window(-5, 300, 60, 60), views.around, views.working.odc.geobox, ["green", "red"]
    )
    np.testing.assert_array_equal(read[:, 5:, :40], views.working.values[[1, 0], :55, 300:])
    assert np.isnan(read[:, :5]).all() and np.isnan(read[:, :, 40:]).all()
    beyond = read_part(Window(400, 0, 4, 4), views.around, views.working.odc.geobox)
    assert np.isnan(beyond).all()


def test_a_click_reads_its_surroundings_and_no_more_of_the_scene():
    read = set()

    def chunk(block_id=None):
        read.add(block_id[1:])
        pixels = np.full((3, CHUNK_PX, CHUNK_PX), 0.6, np.float32)
        pixels[:, 120:130, 120:130] = 0.05  # a pond in every chunk
        return pixels

    chunks = ((3,), (CHUNK_PX,) * 6, (CHUNK_PX,) * 6)
    lazy = da.map_blocks(chunk, chunks=chunks, meta=np.empty((0, 0, 0), np.float32))
    scene = scene_of(lazy)
    answers = ask_at(scene, 1 * CHUNK_PX + 125, 3 * CHUNK_PX + 125)
    read.clear()
    again = ask_at(scene, 4 * CHUNK_PX + 125, 2 * CHUNK_PX + 125, number=2, earlier=answers)
    assert again.outlines.area_m2.to_numpy() == pytest.approx([10_000, 10_000], rel=0.01)
    assert read == {(3, 1), (2, 4)}


def ask_at(scene, x, y, number=1, earlier=None):
    place = shapely.Point(scene.odc.geobox.affine * (x + 0.5, y + 0.5))
    click = gpd.GeoDataFrame({"object": [number]}, geometry=[place], crs="EPSG:32633")
    options = {"resolution": 10, "stretch": "0,1", "dense": False}
    return geosam.ask(scene, click, model=Clicked(), earlier=earlier, **options)


def test_a_mask_of_a_part_is_that_of_the_lazy_whole():
    pixels = np.full((3, 200, 230), 0.6, np.float32)
    pixels[:, 60:150, 100:120] = 0.05
    answers = ask_at(scene_of(pixels), 110, 100)
    water = answers.probability(1).values > 0.5
    assert water.sum() == 90 * 20
    drawn = answers.outlines.geometry[0]
    inside = covering(  # the outline's own pixels, from its bounds
        GeoBox.from_bbox(drawn.bounds, "EPSG:32633", resolution=10), scene_of(pixels).odc.geobox
    )
    assert (inside.height, inside.width) == (90, 20)


@pytest.mark.parametrize(
    "window", [Window(37, 51, 70, 111), Window(0, 1, 1, 1), Window(5, 0, 96, 33)]
)
def test_a_part_that_is_shown_finer_holds_whole_pixels_of_the_scene(window):
    scene = scene_of(np.random.default_rng(0).random((3, 60, 80), np.float32))
    views = view_array(scene, 5)
    finer = views.working.odc.geobox
    looks = views.around(finer[window.slices()])
    assert looks.is_refined
    assert looks.working.shape[1:] == tuple(2 * n for n in looks.scene.shape[1:])
    assert looks.working.odc.geobox.boundingbox == looks.scene.odc.geobox.boundingbox
    assert (looks.working.values[:, ::2, ::2] == looks.scene.values).all()


@dataclass(frozen=True)
class Bright:
    """A network that calls pixels water that are bright in its second band."""

    def predict(self, pixels):
        """Return (n, size, size) float32."""
        return np.where(pixels[:, 1] > 0.5, np.float32(6), np.float32(-6))


def test_a_click_beside_an_index_means_water_that_the_network_alone_finds(monkeypatch):
    monkeypatch.setattr("geosam.evidence.load_network", lambda options, bands: Bright())
    rng = np.random.default_rng(1)
    river, lake = np.zeros((2, 192, 192), bool)
    river[:, 20:50], lake[90:150, 100:160] = True, True
    nir, red, green, blue = np.full((4, 192, 192), [[[0.35]], [[0.05]], [[0.06]], [[0.04]]])
    nir[river], nir[lake], red[lake] = 0.02, 0.12, 0.2
    pixels = np.stack([red, green, blue, nir]) * rng.normal(1, 0.02, (4, 192, 192))
    geobox = GeoBox((192, 192), Affine(10, 0, 600_000, 0, -10, 5_000_000), "EPSG:32633")
    coords = {"band": [*RGB, "nir"], **xr_coords(geobox)}
    scene = xr.DataArray(pixels.astype("float32"), coords=coords, dims=("band", *geobox.dimensions))
    views, options = view_array(scene, 10), Options(resolution=10)
    decision = decide(views, options, own=True)
    assert (decision.witness, decision.adds) == ("index", True)
    grid = TileGrid(geobox_of(views.working), 64, 16)
    clicked = (float(lake.nonzero()[1].mean()), float(lake.nonzero()[0].mean()))
    given = ScenePrompts(
        points=np.array([clicked]),
        labels=np.ones(1, int),
        objects=np.ones(1, int),
        sources=np.array(["user"], object),
        tiles=np.array([""], object),
    )
    prepared = prepare_own(views, decision, Clicked(), grid, given, options)
    meant = polygon_mask(prepared.prompts.given, Window(0, 0, 192, 192), 1)
    assert not meant[river].any()
    assert meant[lake].mean() > 0.8
    assert not meant[~lake].any()
