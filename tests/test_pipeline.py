"""The whole way from a raster to outlines, with a model whose answer is known exactly."""

import threading
import time
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy import ndimage

import geosam
from geosam.prompts.vector import read_prompts
from geosam.testing import sinuous_river_mask, synthetic_scene

NORTH_UP = Affine(10, 0, 600_000, 0, -10, 5_000_000)


@dataclass(frozen=True)
class Darkness:
    """A model that calls dark pixels water wherever it is prompted, and counts what it encodes."""

    size: int = 64
    name: str = "darkness"
    signature: str = "0" * 64
    encoded: list = field(default_factory=list)
    fail_near: float | None = None

    def encode(self, pixels):
        self.encoded.append(len(pixels))
        if self.fail_near is not None and np.isclose(pixels, self.fail_near, atol=1e-3).any():
            raise RuntimeError("this tile is cursed")
        return {"pixels": pixels}

    def decode(self, features, prompts):
        return (0.5 - features["pixels"].mean(axis=1)) * 40, np.full(len(prompts), 0.9)


def scene_of(water, affine=NORTH_UP, crs="EPSG:32633", nodata=None):
    """A scene in which water is dark in the near infrared: (band, y, x) of reflectances."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.004, (4, *water.shape))
    wet, dry = np.array([0.05, 0.07, 0.08, 0.02]), np.array([0.10, 0.09, 0.06, 0.35])
    pixels = np.where(water, wet[:, None, None], dry[:, None, None]) + noise
    if nodata is not None:
        pixels[:, nodata] = np.nan
    geobox = GeoBox(water.shape, affine, crs)
    coords = {"band": ["red", "green", "blue", "nir"], **xr_coords(geobox)}
    return xr.DataArray(pixels.astype("float32"), coords=coords, dims=("band", *geobox.dimensions))


def save(scene, path, nodata=-9999.0):
    values = np.nan_to_num(scene.values, nan=nodata)
    geobox = scene.odc.geobox
    profile = {
        "driver": "GTiff",
        "count": len(values),
        "dtype": "float32",
        "height": values.shape[1],
        "width": values.shape[2],
        "crs": str(geobox.crs),
        "transform": geobox.affine,
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(values)
        target.descriptions = tuple(scene.band.values)
    return path


def run(scene, folder, name="out", **options):
    options = {"resolution": 10, "model": Darkness(), "mask": folder / f"{name}.tif", **options}
    report = geosam.run(scene, folder / f"{name}.gpkg", **options)
    with rasterio.open(folder / f"{name}.tif") as source:
        return report, source.read(1)


def test_a_river_across_many_tiles_is_one_polygon_with_its_islands(tmp_path):
    water = sinuous_river_mask((320, 320), n_islands=3)
    path = save(scene_of(water), tmp_path / "scene.tif")
    report, mask = run(path, tmp_path, overlap=0)
    assert report.tiles["done"] >= 20
    rivers = gpd.read_file(tmp_path / "out.gpkg", layer="outlines")
    islands = gpd.read_file(tmp_path / "out.gpkg", layer="islands")
    assert len(rivers) == 1
    assert len(rivers.geometry[0].interiors) == rivers.n_islands[0] == 3
    assert len(islands) == 3
    assert (islands.outline_id == rivers.outline_id[0]).all()
    assert ((mask == 1) == water).mean() > 0.999


def test_every_layer_is_there_even_of_a_dry_scene(tmp_path):
    path = save(scene_of(np.zeros((100, 120), bool)), tmp_path / "dry.tif")
    report, mask = run(path, tmp_path)
    assert report.outlines == 0
    assert (mask == 0).all()
    layers = dict(pyogrio.list_layers(tmp_path / "out.gpkg"))
    assert {"outlines", "islands", "prompts", "prompt_boxes", "tiles", "runs"} <= set(layers)
    assert layers["outlines"] == "Polygon"


def test_no_tile_of_an_empty_half_is_encoded(tmp_path):
    water = sinuous_river_mask((256, 512))
    empty = np.zeros_like(water)
    empty[:, 256:] = True
    path = save(scene_of(water, nodata=empty), tmp_path / "half.tif")
    model = Darkness()
    report, mask = run(path, tmp_path, model=model)
    tiles = gpd.read_file(tmp_path / "out.gpkg", layer="tiles")
    beyond = tiles[tiles.bounds.minx >= 600_000 + 2560]
    assert len(beyond) > 0
    assert set(beyond.status) == {"skipped_nodata"}
    assert sum(model.encoded) == report.tiles["done"]
    assert (mask[:, 256:] == 255).all()
    assert (mask[:, :256] != 255).all()


def test_a_large_model_sees_few_groups_at_a_time_and_says_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.segmentation.GROUP_PX", 96)
    path = save(scene_of(sinuous_river_mask((320, 320))), tmp_path / "scene.tif")
    busy, most = set(), []

    class Slow(Darkness):
        def encode(self, pixels):
            busy.add(threading.get_ident())
            most.append(len(busy))
            time.sleep(0.01)
            busy.discard(threading.get_ident())
            return super().encode(pixels)

    _, small = run(path, tmp_path, "small", model=Slow())
    assert len(most) > 4
    most.clear()
    monkeypatch.setattr("geosam.models.memory.SMALL_PX", 32)
    monkeypatch.setattr("geosam.workers.LARGE_AT_ONCE", 1)
    _, large = run(path, tmp_path, "large", model=Slow())
    assert set(most) == {1}
    assert (large == small).all()


def test_two_crops_agree_on_what_they_share(tmp_path):
    water = sinuous_river_mask((300, 400))
    whole = scene_of(water)
    _, left = run(save(whole[:, :, :300], tmp_path / "left.tif"), tmp_path, "a")
    _, right = run(save(whole[:, :, 100:], tmp_path / "right.tif"), tmp_path, "b")
    a, b = left[:, 100:] == 1, right[:, :200] == 1
    assert (a & b).sum() / (a | b).sum() >= 0.98


def test_an_area_of_interest_does_not_change_the_answer_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.aoi.TILE_PX", 64)
    water = sinuous_river_mask((320, 1400), n_islands=4)
    path = save(scene_of(water), tmp_path / "scene.tif")
    area = gpd.GeoSeries(
        [shapely.box(606_000, 4_997_500, 608_000, 4_999_500)], crs="EPSG:32633"
    ).to_crs(4326)
    area.to_file(tmp_path / "aoi.gpkg")
    _, whole = run(path, tmp_path, "whole", probability=tmp_path / "p.tif")
    _, part = run(path, tmp_path, "part", aoi=tmp_path / "aoi.gpkg")
    with rasterio.open(tmp_path / "part.tif") as source:
        row, col = (
            round(v)
            for v in ((5_000_000 - source.transform.f) / 10, (source.transform.c - 600_000) / 10)
        )
        assert source.width < 1400
    same = whole[row : row + part.shape[0], col : col + part.shape[1]]
    inside = part != 255
    assert inside.sum() == pytest.approx(200 * 200, rel=0.03)
    assert (part[inside] == same[inside]).all()


def test_saved_prompts_make_the_same_run(tmp_path):
    class Prompted(Darkness):
        """Its answer depends on every prompt it gets."""

        def decode(self, features, prompts):
            logits, scores = super().decode(features, prompts)
            shift = [
                p.points[0].sum() % 7 + (p.masks.sum() % 5 if p.masks is not None else 9)
                for p in prompts
            ]
            return logits + np.array(shift)[:, None, None], scores

    path = save(scene_of(sinuous_river_mask((256, 256))), tmp_path / "scene.tif")
    first, mask = run(path, tmp_path, "first", model=Prompted(), boxes=True)
    again, same = run(
        path, tmp_path, "again", model=Prompted(), prompts=str(tmp_path / "first.gpkg")
    )
    assert (mask == same).all()
    assert first.tiles == again.tiles
    one, two = (gpd.read_file(tmp_path / f"{n}.gpkg", layer="prompts") for n in ("first", "again"))
    assert len(one) == len(two)


def test_a_box_of_a_users_own_is_saved_as_such_and_asked_again_in_the_same_way(tmp_path):
    water = np.zeros((128, 128), bool)
    water[30:90, 20:100] = True
    path = save(scene_of(water), tmp_path / "scene.tif")
    corners = [NORTH_UP * (x, y) for x, y in ((20, 30), (100, 90))]
    box = shapely.box(corners[0][0], corners[1][1], corners[1][0], corners[0][1])
    gpd.GeoDataFrame(geometry=[box], crs="EPSG:32633").to_file(tmp_path / "box.gpkg")
    _, mask = run(path, tmp_path, "first", prompts=str(tmp_path / "box.gpkg"))
    for layer in ("prompt_boxes", "prompt_masks"):
        assert set(gpd.read_file(tmp_path / "first.gpkg", layer=layer).source) == {"user"}
    _, same = run(path, tmp_path, "again", prompts=str(tmp_path / "first.gpkg"))
    assert (mask == 1).any()
    assert (mask == same).all()


def test_the_learned_network_prompts_with_its_doubts_and_saved_prompts_do_too(tmp_path):
    class Doubtful(Darkness):
        """It answers with its mask prompt, which it wants as logits."""

        def decode(self, features, prompts):
            masks = np.stack([p.masks[0] for p in prompts])
            assert masks.dtype == np.float32
            assert len(np.unique(masks)) > 50
            return masks, np.full(len(prompts), 0.9)

    drawn = synthetic_scene((256, 256), seed=3, nir=False, nodata_corner=0.1)
    path = save(drawn.scene.astype("float32"), tmp_path / "scene.tif")
    options = {"resolution": 1, "model": Doubtful(), "overlap": 16}
    _, mask = run(path, tmp_path, "first", **options)
    _, same = run(path, tmp_path, "again", prompts=str(tmp_path / "first.gpkg"), **options)
    assert (mask == 1).any()
    assert (mask == same).all()


def test_every_point_lies_on_its_own_side(tmp_path):
    water = sinuous_river_mask((256, 256))
    path = save(scene_of(water), tmp_path / "scene.tif")
    run(path, tmp_path)
    points = gpd.read_file(tmp_path / "out.gpkg", layer="prompts")
    rows, cols = rasterio.transform.rowcol(NORTH_UP, points.geometry.x, points.geometry.y)
    assert set(points.label) == {0, 1}
    assert (water[rows, cols] == (points.label == 1)).all()


@pytest.mark.parametrize(
    "affine",
    [
        NORTH_UP,
        Affine(10, 0, 600_000, 0, 10, 5_000_000),
        Affine.translation(600_000, 5_000_000) @ Affine.rotation(25) @ Affine.scale(10, -10),
    ],
    ids=["north-up", "south-up", "rotated"],
)
def test_points_in_degrees_land_on_the_right_pixel(tmp_path, affine):
    rows, cols = np.array([3, 40, 77]), np.array([9, 55, 118])
    x, y = affine @ (cols + 0.5, rows + 0.5)
    gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y), crs=32633).to_crs(4326).to_file(
        tmp_path / "points.gpkg"
    )
    prompts = read_prompts(tmp_path / "points.gpkg", GeoBox((90, 130), affine, "EPSG:32633"))
    np.testing.assert_allclose(
        prompts.points, np.stack([cols + 0.5, rows + 0.5], axis=1), atol=0.01
    )


def test_a_tile_that_fails_is_data_and_the_rest_goes_on(tmp_path):
    water = sinuous_river_mask((256, 256))
    scene = scene_of(water)
    scene.values[:, 128, 128] = [0.0, 0.0, 0.0, 5.0]
    path = save(scene, tmp_path / "scene.tif")
    cursed = Darkness(fail_near=None)
    report, _ = run(path, tmp_path, "fine", model=cursed)
    assert report.exit_status == 0

    class Cursed(Darkness):
        def encode(self, pixels):
            spots = (pixels[:, 0] > 0.999) & (pixels[:, 1] < 0.001) & (pixels[:, 2] < 0.001)
            if spots.any():
                raise RuntimeError("this tile is cursed")
            return super().encode(pixels)

    report, mask = run(path, tmp_path, "bad", model=Cursed(), overlap=0, batch_size=4)
    tiles = gpd.read_file(tmp_path / "bad.gpkg", layer="tiles").set_index("status")
    assert report.exit_status == 1
    assert len(tiles.loc[["failed"]]) == 1
    assert tiles.loc[["failed"]].error.iloc[0] == "RuntimeError: this tile is cursed"
    labels, n = ndimage.label(mask == 255)
    assert n == 1
    assert (labels == 1).sum() == 64 * 64


def test_the_result_is_lazy_and_on_the_scene_s_grid():
    scene = scene_of(sinuous_river_mask((200, 200)))
    model = Darkness()
    result = geosam.segment(scene, model=model, resolution=10)
    assert model.encoded == []
    assert result.probability.odc.geobox == scene.odc.geobox
    mask = result.mask.compute()
    assert sum(model.encoded) > 0
    assert ((mask == 1).values == sinuous_river_mask((200, 200))).mean() > 0.999


@pytest.mark.parametrize("resolution", [5, 10, 20, 30])
def test_the_scene_is_seen_at_any_resolution_and_answered_on_its_own(resolution):
    water = sinuous_river_mask((200, 200))
    result = geosam.segment(scene_of(water), model=Darkness(), resolution=resolution)
    mask = result.mask.compute().values == 1
    assert result.probability.shape == (200, 200)
    assert (mask & water).sum() / (mask | water).sum() > (0.99 if resolution <= 10 else 0.85)


def save_mask(mask, like, path):
    with rasterio.open(like) as source:
        profile = {**source.profile, "count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(path, "w", **profile) as target:
        target.write(mask.astype("uint8"), 1)
    return str(path)


def test_a_user_s_raster_is_the_coarse_mask(tmp_path):
    water = sinuous_river_mask((200, 200))
    path = save(scene_of(water), tmp_path / "scene.tif")
    left = water.copy()
    left[:, 100:] = False
    hint = save_mask(left, path, tmp_path / "coarse.tif")
    bands = "red=1,green=2,blue=3,swir2=4"  # no index fits these
    report, _ = run(path, tmp_path, prompts=hint, bands=bands, rounds=1)
    tiles = gpd.read_file(tmp_path / "out.gpkg", layer="tiles")
    assert report.tiles["skipped_no_prompt"] > 0
    assert tiles[tiles.status == "done"].bounds.minx.min() < 600_500
    assert tiles[tiles.status == "done"].bounds.minx.max() < 601_600


def test_a_hint_says_which_water_and_the_index_where_its_edges_are(tmp_path):
    river, pond = np.zeros((2, 200, 200), bool)
    river[30:42], pond[120:150, 60:90] = True, True
    path = save(scene_of(river | pond), tmp_path / "scene.tif")
    narrow = ndimage.binary_erosion(river, iterations=3)
    for name, hint in (("narrow", narrow), ("wide", ndimage.binary_dilation(river, iterations=3))):
        file = save_mask(hint, path, tmp_path / f"{name}_hint.tif")
        _, mask = run(path, tmp_path, name, prompts=file)
        assert ((mask == 1) == river).all()


def test_a_hint_at_something_else_is_left_alone(tmp_path):
    river, field = np.zeros((2, 200, 200), bool)
    river[30:42], field[120:150, 60:90] = True, True
    path = save(scene_of(river), tmp_path / "scene.tif")
    file = save_mask(field, path, tmp_path / "hint.tif")
    run(path, tmp_path, prompts=file)
    points = gpd.read_file(tmp_path / "out.gpkg", layer="prompts")
    rows, cols = rasterio.transform.rowcol(NORTH_UP, points.geometry.x, points.geometry.y)
    assert field[rows, cols][points.label == 1].all()


def test_saved_prompts_of_a_hint_make_the_same_run(tmp_path):
    river, pond = np.zeros((2, 200, 200), bool)
    river[30:42], pond[120:150, 60:90] = True, True
    path = save(scene_of(river | pond), tmp_path / "scene.tif")
    file = save_mask(river, path, tmp_path / "hint.tif")
    _, first = run(path, tmp_path, "first", prompts=file)
    _, again = run(path, tmp_path, "again", prompts=str(tmp_path / "first.gpkg"))
    assert (first == again).all()


def test_a_dark_rim_along_nodata_is_no_water():
    from geosam.coarse import without_slivers

    scene = scene_of(np.zeros((120, 160), bool), nodata=np.tri(120, 160, -20, bool))
    void = np.isnan(scene.values[0])
    rim = ndimage.binary_dilation(void, iterations=3) & ~void
    river = np.zeros_like(void)
    river[20:45] = True
    stream = np.zeros_like(void)
    stream[:, 150:152] = True
    logits = np.where((rim | river | stream) & ~void, 3.0, -3.0).astype("float32")
    evidence = scene.isel(band=0, drop=True).copy(data=logits)
    kept = without_slivers(evidence.chunk(40), scene.chunk(40)).values > 0
    assert (kept & rim & ~river).sum() < 0.05 * rim.sum()
    assert (kept[:, 100:] == (river | stream)[:, 100:]).all()
