import dask.array
import geopandas as gpd
import numpy as np
import odc.geo.xr
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from scipy import ndimage

from geosam import strips
from geosam.errors import InputError, OptionError
from geosam.export.cog import write_raster
from geosam.layers import LAYERS
from geosam.vectors import islands, outlines

EIGHT = np.ones((3, 3))
NORTH_UP = Affine(10, 0, 5e5, 0, -10, 45e5)
SOUTH_UP = Affine(10, 0, 5e5, 0, 10, 45e5)
TURNED = Affine.translation(5e5, 45e5) @ Affine.rotation(33) @ Affine.scale(10, -10)
EVERYTHING = {"min_area": 0, "min_island": 0}


def on_grid(values, transform=NORTH_UP, crs="EPSG:32633"):
    return odc.geo.xr.wrap_xr(values, GeoBox(values.shape, transform, crs))


def burnt(frame, shape, transform=NORTH_UP):
    if frame.empty:
        return np.zeros(shape, bool)
    return rasterize(frame.geometry, shape, transform=transform).astype(bool)


def meeting_pairs(frame):
    polygons = frame.geometry.to_numpy()
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    return int((first < second).sum())


def blobs(seed=0, size=256, sigma=4.0, share=0.5):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random((size, size)), sigma)
    return field > np.quantile(field, 1 - share)


def sinuous_river(tile=64, tiles=5):
    """A river across 5x5 tiles, with three islands."""
    size = tile * tiles
    y, x = np.mgrid[:size, :size] + 0.5
    river = np.abs(y - size / 2 - 0.35 * size * np.sin(x / size * 2 * np.pi)) < 26
    for at in (0.25, 0.5, 0.75):
        middle = size / 2 + 0.35 * size * np.sin(at * 2 * np.pi)
        river &= np.hypot(x - at * size, y - middle) > 8
    return river


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_becomes_valid_disjoint_polygons_that_burn_back_to_it(mask):
    frame = outlines(on_grid(mask), simplify=0, **EVERYTHING)
    assert (burnt(frame, mask.shape) == mask).all()
    assert len(frame) == ndimage.label(mask, EIGHT)[1]
    assert frame.geometry.is_valid.all()
    assert meeting_pairs(frame) == 0
    assert frame.geometry.area.sum() == pytest.approx(100 * mask.sum(), rel=1e-3)
    land = ndimage.label(np.pad(~mask, 1, constant_values=True))[1] - 1
    assert frame.n_islands.sum() == land
    assert len(islands(frame)) == land


@settings(max_examples=40, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_simplified_masks_stay_valid_disjoint_and_keep_area_and_islands(mask):
    frame = outlines(on_grid(mask), **EVERYTHING)
    exact = outlines(on_grid(mask), simplify=0, **EVERYTHING)
    assert frame.geometry.is_valid.all()
    assert meeting_pairs(frame) == 0
    assert len(frame) == len(exact)
    assert frame.n_islands.sum() == exact.n_islands.sum()
    assert frame.geometry.area.sum() == pytest.approx(exact.geometry.area.sum(), rel=5e-3)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_noise_becomes_one_outline_for_each_of_scipy_s_labels(share):
    mask = np.random.default_rng(1).random((80, 90)) < share
    frame = outlines(on_grid(mask), simplify=0, **EVERYTHING)
    assert len(frame) == ndimage.label(mask, EIGHT)[1]
    assert (burnt(frame, mask.shape) == mask).all()
    assert frame.geometry.is_valid.all()
    assert meeting_pairs(frame) == 0


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, TURNED])
def test_outlines_lie_on_the_pixels_of_any_grid(transform):
    mask = blobs(size=64, sigma=2)
    frame = outlines(on_grid(mask, transform), simplify=0, **EVERYTHING)
    assert (burnt(frame, mask.shape, transform) == mask).all()
    assert frame.geometry.exterior.is_ccw.all()


@pytest.mark.parametrize("simplify", [0, None])
@pytest.mark.parametrize("flip", [False, True])
def test_a_diagonal_stream_of_one_pixel_is_one_valid_polygon(simplify, flip):
    mask = np.eye(300, dtype=bool)[:, :: -1 if flip else 1]
    frame = outlines(on_grid(mask), simplify=simplify)
    assert len(frame) == 1
    assert frame.geometry.is_valid.all()
    assert frame.geometry.area[0] == pytest.approx(300 * 100, rel=1e-3)


def test_a_checkerboard_is_bridged_by_less_than_a_thousandth_of_its_area():
    mask = np.indices((40, 40)).sum(0) % 2 == 0
    frame = outlines(on_grid(mask), simplify=0, **EVERYTHING)
    assert len(frame) == 1
    assert frame.geometry.is_valid.all()
    assert 0 < frame.geometry.area[0] / (100 * mask.sum()) - 1 < 1e-3
    assert (burnt(frame, mask.shape) == mask).all()


@pytest.mark.parametrize("strip_px", [400, 1000, 4_000_000])
def test_a_river_across_tiles_is_one_polygon_with_three_islands(monkeypatch, strip_px):
    monkeypatch.setattr(strips, "STRIP_PX", strip_px)
    river = sinuous_river()
    frame = outlines(on_grid(river))
    assert frame.outline_id.tolist() == [1]
    assert frame.n_islands.tolist() == [3]
    rows = islands(frame)
    assert rows.island_id.tolist() == [1, 2, 3]
    assert (rows.outline_id == 1).all()
    land, count = ndimage.label(~river)
    sizes = sorted(np.bincount(land.ravel())[1:])[: count - 2]
    assert sorted(rows.area_m2) == pytest.approx([100 * size for size in sizes], rel=5e-3)


def test_islands_fill_their_holes_exactly():
    frame = outlines(on_grid(blobs()), **EVERYTHING)
    rows = islands(frame)
    assert rows.geometry.is_valid.all()
    for outline, group in rows.groupby("outline_id"):
        polygon = frame.set_index("outline_id").geometry[outline]
        filled = shapely.union_all([polygon, *group.geometry])
        assert filled.equals(shapely.Polygon(polygon.exterior))
        assert not polygon.overlaps(group.geometry).any()
    assert rows.groupby("outline_id").area_m2.apply(lambda a: a.is_monotonic_decreasing).all()


@pytest.mark.parametrize("simplify", [None, 5, 20])
def test_simplification_keeps_the_area_of_every_large_polygon(simplify):
    for seed in range(4):
        mask = blobs(seed, sigma=6)
        exact = outlines(on_grid(mask), simplify=0, **EVERYTHING)
        smooth = outlines(on_grid(mask), simplify=simplify, **EVERYTHING)
        assert len(exact) == len(smooth)
        change = smooth.geometry.area.sort_values().to_numpy() / np.sort(exact.geometry.area) - 1
        large = np.sort(exact.geometry.area) > 1000 * 100
        assert np.abs(change[large]).max() < 0.005
        assert smooth.geometry.area.sum() == pytest.approx(exact.geometry.area.sum(), rel=0.005)
        assert smooth.geometry.is_valid.all()
        assert meeting_pairs(smooth) == 0


def test_simplification_drops_points_and_stays_within_a_pixel():
    mask = blobs(sigma=6)
    exact = outlines(on_grid(mask), simplify=0)
    smooth = outlines(on_grid(mask))
    count = [shapely.get_num_coordinates(f.geometry.to_numpy()).sum() for f in (exact, smooth)]
    assert count[1] < 0.6 * count[0]
    far = shapely.hausdorff_distance(exact.geometry.union_all(), smooth.geometry.union_all())
    assert far < 1.5 * 10


def test_rivers_one_pixel_apart_never_come_to_overlap():
    y, x = np.mgrid[:120, :200]
    bank = (y - 60 - 25 * np.sin(x / 17)).round()
    mask = (np.abs(bank) < 12) & (bank != 0)
    frame = outlines(on_grid(mask), simplify=15, **EVERYTHING)
    assert len(frame) == ndimage.label(mask, EIGHT)[1]
    assert meeting_pairs(frame) == 0


def test_small_outlines_and_islands_go_by_their_area_on_the_ground():
    mask = np.zeros((40, 60), bool)
    mask[2:30, 2:30] = True
    mask[5:8, 5:8] = False  # 9 px
    mask[12:17, 12:17] = False  # 25 px
    mask[2:5, 40:44] = True  # 12 px
    mask[10:11, 40:51] = True  # 11 px
    frame = outlines(on_grid(mask), simplify=0)
    assert frame.geometry.area.round().tolist() == [75900, 1200]
    assert frame.n_islands.tolist() == [1, 0]
    assert len(outlines(on_grid(mask), min_area=1190)) == 2
    assert len(outlines(on_grid(mask), min_area=1210)) == 1
    assert outlines(on_grid(mask), min_island=0).n_islands[0] == 2
    assert outlines(on_grid(mask), min_island=2600).n_islands[0] == 0


def test_area_limits_hold_on_the_ground_in_web_mercator():
    mask = np.zeros((40, 40), bool)
    mask[5:15, 5:15] = True
    north = on_grid(mask, Affine(10, 0, 0, 0, -10, 8399738), "EPSG:3857")  # 60 degrees north
    assert outlines(north, simplify=0).area_m2[0] == pytest.approx(10000 / 4, rel=0.01)
    assert len(outlines(north, min_area=2400)) == 1
    assert len(outlines(north, min_area=2600)) == 0


def test_an_outline_in_a_filled_hole_belongs_to_the_water_around():
    mask = np.zeros((60, 60), bool)
    mask[5:50, 5:50] = True
    mask[10:40, 10:40] = False
    mask[15:30, 15:30] = True
    kept = outlines(on_grid(mask), simplify=0)
    assert kept.geometry.area.tolist() == pytest.approx([112500, 22500])
    swallowed = outlines(on_grid(mask), simplify=0, min_island=2e5)
    assert swallowed.geometry.area.tolist() == pytest.approx([202500])


def test_outlines_of_degrees_have_their_area_on_the_ground():
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    transform = Affine(1e-4, 0, 10, 0, -1e-4, 60)
    for simplify in (0, None):
        frame = outlines(on_grid(mask, transform, "EPSG:4326"), simplify=simplify)
        assert frame.area_m2[0] == pytest.approx(2e-3**2 * 111412 * 55800, rel=2e-3)


def test_an_empty_mask_gives_every_column_with_its_type():
    for values in (np.zeros((5, 5), bool), np.full((5, 5), np.nan, np.float32)):
        frame = outlines(on_grid(values))
        assert len(frame) == 0
        assert frame.crs == "EPSG:32633"
        expected = outlines(on_grid(np.ones((9, 9), bool))).dtypes
        assert (frame.dtypes == expected).all()
        assert list(frame) == [*LAYERS["outlines"].columns, "geometry"]
        assert list(islands(frame)) == [*LAYERS["islands"].columns, "geometry"]
        assert (islands(frame).dtypes[:3] == "int64").all()


def test_ids_run_from_the_largest_and_do_not_change():
    mask = blobs(sigma=3, share=0.3)
    first, again = (outlines(on_grid(mask), **EVERYTHING) for _ in range(2))
    assert first.outline_id.tolist() == list(range(1, len(first) + 1))
    assert first.area_m2.is_monotonic_decreasing
    assert first.geometry.geom_equals(again.geometry).all()


@pytest.mark.parametrize("strip_px", [500, 4_000_000])
def test_probability_and_stability_are_those_of_the_pixels(monkeypatch, strip_px):
    monkeypatch.setattr(strips, "STRIP_PX", strip_px)
    field = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((90, 100)), 4)
    p = (1 / (1 + np.exp(-3 * field / field.std()))).astype(np.float32)
    frame = outlines(on_grid(p), simplify=0, **EVERYTHING)
    labels, count = ndimage.label(p > 0.5, EIGHT)
    low, _ = ndimage.label(p > 0.27, EIGHT)
    assert len(frame) == count
    for row in frame.itertuples():
        point = ~NORTH_UP @ row.geometry.representative_point().coords[0]
        inside = labels == labels[int(point[1]), int(point[0])]
        around = low == low[inside][0]
        assert row.probability == pytest.approx(p[inside].mean(), rel=1e-5)
        assert row.stability == pytest.approx((p[around] > 0.73).sum() / around.sum())


def test_a_mask_knows_no_probability_and_needs_no_review():
    frame = outlines(on_grid(blobs()))
    assert frame[["probability", "predicted_iou", "stability"]].isna().all(axis=None)
    assert not frame.needs_review.any()
    assert (frame.kind == "unknown").all()


def test_unsure_outlines_need_review():
    p = np.full((20, 40), 0.02, np.float32)
    p[5:15, 5:15] = 0.98
    p[5:15, 25:35] = 0.6
    frame = outlines(on_grid(p)).sort_values("probability")
    assert frame.probability.tolist() == pytest.approx([0.6, 0.98])
    assert frame.stability.tolist() == [0, 1]
    assert frame.needs_review.tolist() == [True, False]


def test_what_touches_the_edge_or_nodata_is_truncated():
    p = np.zeros((30, 40), np.float32)
    p[0:6, 5:15] = 0.9
    p[12:18, 5:15] = 0.9
    p[12:18, 25:35] = 0.9
    p[18:20, 25:35] = np.nan
    frame = outlines(on_grid(p))
    by_place = frame.set_index(frame.geometry.centroid.y.round(-1)).truncated
    assert frame.truncated.sum() == 2
    assert by_place.loc[4500000 - 30]
    middle = frame[frame.geometry.centroid.x < 5e5 + 200].sort_values("truncated")
    assert middle.truncated.tolist() == [False, True]


@pytest.mark.parametrize("strip_px", [200, 4_000_000])
def test_predicted_iou_is_the_mean_over_pixels_or_tiles(monkeypatch, strip_px):
    monkeypatch.setattr(strips, "STRIP_PX", strip_px)
    mask = np.zeros((20, 40), bool)
    mask[5:15, 10:30] = True
    scores = np.where(np.arange(40) < 15, 0.5, 0.9).astype(np.float32) * np.ones((20, 1), "f4")
    expected = 0.5 * 0.25 + 0.9 * 0.75
    middle = 5e5 + 150
    left = shapely.box(5e5, 45e5 - 200, middle, 45e5)
    right = shapely.box(middle, 45e5 - 200, 5e5 + 400, 45e5)
    tiles = gpd.GeoDataFrame(
        {"predicted_iou": [0.5, 0.9], "status": ["done", "failed"]},
        geometry=[left, right],
        crs="EPSG:32633",
    )
    by_pixel = outlines(on_grid(mask), predicted_iou=on_grid(scores))
    by_tile = outlines(on_grid(mask), predicted_iou=tiles.to_crs(3857).to_crs(32633))
    assert by_pixel.predicted_iou[0] == pytest.approx(expected, rel=1e-6)
    assert by_tile.predicted_iou[0] == pytest.approx(expected, rel=1e-6)
    assert not by_pixel.needs_review[0]
    assert by_tile.needs_review[0]


def test_gaps_up_to_the_limit_join_rivers_but_not_outlines():
    mask = np.zeros((30, 60), bool)
    mask[5:15, 2:20] = True
    mask[5:15, 23:38] = True  # 3 px = 30 m on
    mask[5:15, 48:58] = True  # 100 m on
    assert outlines(on_grid(mask)).river_id.tolist() == [1, 2, 3]
    assert outlines(on_grid(mask), join_gap=29, simplify=0).river_id.tolist() == [1, 2, 3]
    joined = outlines(on_grid(mask), join_gap=31, simplify=0)
    assert joined.river_id.tolist() == [1, 1, 3]
    assert joined.outline_id.tolist() == [1, 2, 3]
    degrees = Affine(1e-4, 0, 10, 0, -1e-4, 60)  # 5.6 m by 11.1 m
    assert outlines(on_grid(mask, degrees, 4326), join_gap=18).river_id.tolist() == [1, 1, 3]


def test_a_dask_array_is_computed_once_and_gives_the_same():
    mask = blobs(size=128)
    seen = []

    def look(block, block_info=None):
        seen.append(block_info[0]["chunk-location"])
        return block

    lazy = dask.array.from_array(mask, chunks=(50, 70)).map_blocks(look, dtype=bool, meta=mask[:0])
    frame = outlines(on_grid(mask).copy(data=lazy))
    assert len(seen) == len(set(seen)) == 6
    assert frame.geometry.geom_equals(outlines(on_grid(mask)).geometry).all()


def write(path, values, nodata=None, scale=1.0, crs="EPSG:32633", **options):
    height, width = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "dtype": values.dtype.name}
    profile |= {"count": 1, "crs": crs, "transform": NORTH_UP, "nodata": nodata, **options}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)
        file.scales = (scale,) * file.count
    return path


def test_files_of_every_kind_give_the_same_outlines(tmp_path):
    mask = blobs(size=96)
    expected = outlines(on_grid(mask)).geometry
    byte = mask.astype(np.uint8)
    kinds = {
        "mask": (byte, 255, 1.0),
        "tagless": (byte, None, 1.0),
        "zero": (byte, 0, 1.0),
        "full": (byte * 255, None, 1.0),
        "probability": (byte * 254, 255, 1 / 254),
        "float": (mask.astype(np.float32), None, 1.0),
        "minus": (mask.astype(np.float32), -9999, 1.0),
        "int16": (mask.astype(np.int16), -1, 1.0),
    }
    for name, (values, nodata, scale) in kinds.items():
        path = write(tmp_path / f"{name}.tif", values, nodata, scale)
        assert outlines(path).geometry.geom_equals(expected).all(), name
        assert outlines(path).truncated.sum() == outlines(on_grid(mask)).truncated.sum(), name


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("nodata", [None, 0])
def test_in_a_mask_of_0_and_255_alone_255_is_water(tmp_path, dtype, nodata):
    mask = blobs(size=96)
    expected = outlines(on_grid(mask))
    values = mask.astype(dtype) * np.array(255, dtype)
    found = outlines(write(tmp_path / "full.tif", values, nodata))
    assert found.geometry.geom_equals(expected.geometry).all()
    assert found.truncated.equals(expected.truncated)
    values[0, 0] = 1
    beside_a_one = outlines(write(tmp_path / "unknown.tif", values, nodata), min_area=0, simplify=0)
    assert beside_a_one.geometry.area.tolist() == [100]


def test_a_signed_byte_is_a_mask_of_0_and_1(tmp_path):
    mask = blobs(size=96)
    expected = outlines(on_grid(mask)).geometry
    for name, values in (("wet", mask), ("dry", mask & False)):
        found = outlines(write(tmp_path / f"{name}.tif", values.astype(np.int8)))
        assert len(found) == len(expected) * (name == "wet")


def test_what_the_mask_of_a_file_hides_is_nodata_whatever_255_is(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15] = 1
    for name, values in (("ones", mask), ("full", mask * 255)):
        path = write(tmp_path / f"{name}.tif", values)
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.arange(400).reshape(20, 20) % 20 >= 5)
        assert outlines(path, simplify=0).geometry.area.tolist() == [15000], name


def test_probability_bytes_are_read_by_their_scale(tmp_path):
    values = np.full((20, 20), 25, np.uint8)
    values[5:15, 5:15] = 203
    values[:2] = 255
    frame = outlines(write(tmp_path / "p.tif", values, 255, 1 / 254))
    assert frame.probability.tolist() == pytest.approx([203 / 254])
    assert len(outlines(tmp_path / "p.tif", threshold=0.9)) == 0


def test_nodata_of_a_mask_is_not_water(tmp_path):
    values = np.ones((20, 20), np.uint8)
    values[:, :5] = 255
    for source in (write(tmp_path / "m.tif", values, 255), on_grid(values)):
        frame = outlines(source, simplify=0)
        assert frame.geometry.area.tolist() == [30000]
        assert frame.truncated.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.full((9, 9), 7, np.uint8)}, "holds the value 7"),
        ({"values": np.full((9, 9), 7, np.float32)}, "outside of 0 to 1"),
        ({"crs": None}, "no CRS"),
        ({"count": 3}, "3 bands"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rasters_that_are_neither_mask_nor_probability_are_refused(tmp_path, change, message):
    path = write(tmp_path / "bad.tif", **{"values": np.zeros((9, 9), np.uint8)} | change)
    with pytest.raises(InputError, match=message):
        outlines(path)


def test_missing_files_plain_arrays_and_other_grids_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be opened"):
        outlines(tmp_path / "none.tif")
    with pytest.raises(InputError, match="no georeference"):
        outlines(xr.DataArray(blobs(size=9), dims=("y", "x")))
    with pytest.raises(InputError, match="same grid"):
        outlines(on_grid(blobs(size=16)), predicted_iou=on_grid(np.ones((4, 4), np.float32)))
    with pytest.raises(InputError, match="predicted_iou"):
        outlines(on_grid(blobs(size=16)), predicted_iou=outlines(on_grid(blobs()))[["geometry"]])


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"min_area": -1}, {"simplify": -1}])
def test_sizes_outside_their_rule_are_refused(wrong):
    with pytest.raises(OptionError):
        outlines(on_grid(blobs(size=16)), **wrong)


def test_gdal_keeps_little_of_what_is_streamed(tmp_path, monkeypatch):
    path, caches, read = tmp_path / "mask.tif", [], rasterio.io.DatasetReader.read
    write_raster(on_grid(np.eye(64, dtype=np.uint8)), path, kind="mask")

    class Watched(rasterio.io.DatasetReader):
        def read(self, *args, **options):
            caches.append(rasterio.env.get_gdal_config("GDAL_CACHEMAX"))
            return read(self, *args, **options)

    monkeypatch.setattr(strips, "open_reader", lambda p: Watched(str(p)))
    assert len(outlines(path, **EVERYTHING)) == 1
    assert set(caches) == {strips.CACHE_BYTES[0]}


def test_gdal_keeps_the_blocks_side_by_side_of_wide_rasters(tmp_path):
    with rasterio.open(
        tmp_path / "wide.tif", "w", driver="GTiff", dtype="uint8", count=1, height=600, width=40_000,
        tiled=True, blockxsize=512, blockysize=512, sparse_ok=True, transform=NORTH_UP, crs="EPSG:32633",
    ):  # fmt: skip
        pass
    with rasterio.open(tmp_path / "wide.tif") as file:
        row = 79 * 512 * 512
        assert row < strips.cache_bytes(file) < 1.2 * row
