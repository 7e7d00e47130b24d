"""Run lengths and COCO JSON, against values made by hand and, where they are, COCO's own tools."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from odc.geo.geobox import GeoBox

import geosam
from geosam.commands import convert_coco
from geosam.cutouts import Cutout, cut_out
from geosam.errors import InputError, OptionError, OutputError
from geosam.rle import (
    compress,
    decode_cutout,
    decode_mask,
    decompress,
    encode_cutout,
    encode_mask,
)
from geosam.testing import write_picture
from geosam.types import Window

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))
GRID = GeoBox((40, 50), Affine(2, 0, 500_000, 0, -2, 5_000_000), "EPSG:32633")


def test_runs_go_down_the_columns_and_begin_with_background():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert encode_mask(mask) == {"size": [2, 3], "counts": [2, 1, 1, 2]}
    assert encode_mask(np.ones((2, 2), bool))["counts"] == [0, 4]
    assert encode_mask(np.zeros((2, 2), bool))["counts"] == [4]


@given(MASKS)
@settings(deadline=None)
def test_run_lengths_bring_back_every_mask(mask):
    rle = encode_mask(mask)
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"))) + 1
    bounds = np.concatenate([[0] * bool(mask.ravel(order="F")[0]), [0], changes, [mask.size]])
    assert rle["counts"] == np.diff(bounds).tolist()
    np.testing.assert_array_equal(decode_mask(rle), mask)
    packed = {"size": rle["size"], "counts": compress(rle["counts"])}
    np.testing.assert_array_equal(decode_mask(packed), mask)
    cutout = cut_out(mask)
    if cutout is not None:
        assert encode_cutout(cutout, mask.shape) == rle


@given(st.lists(st.integers(0, 2**40), max_size=12))
def test_strings_of_counts_bring_back_every_count(counts):
    assert decompress(compress(counts)) == counts


def test_a_string_is_that_of_the_coco_tools():
    # The third count on is a difference, here 3 - 40 + ... of two before: worked out by hand.
    assert compress([5, 40, 3, 50]) == "5X13:"
    assert compress([0, 4]) == "04"


@given(MASKS)
@settings(deadline=None)
def test_run_lengths_are_those_of_pycocotools(mask):
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    theirs = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert compress(encode_mask(mask)["counts"]) == theirs["counts"].decode()
    np.testing.assert_array_equal(decode_mask(theirs), mask)


def test_a_mask_on_a_huge_scene_is_never_laid_out():
    small = Cutout(Window(70_000, 90_000, 3, 2), np.ones((3, 2), bool))
    again = decode_cutout(encode_cutout(small, (100_000, 100_000)))
    assert again.window == small.window and again.mask.all()


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        ({"size": [2, 2], "counts": [1, 2]}, "sum to 3, and a mask of 2 x 2 has 4"),
        ({"size": [2, 2], "counts": [5, -1]}, "counts below 0"),
        ({"size": [2, 2]}, "need a size of"),
        ({"size": [2, 2], "counts": "1é"}, "none of COCO's characters"),
        ({"size": [2, 2], "counts": "P"}, "in the middle of a count"),
        ({"size": "ab", "counts": [4]}, "need a size of"),
    ],
)
def test_run_lengths_that_do_not_hold_together_are_refused(rle, words):
    with pytest.raises(InputError, match=words):
        decode_mask(rle)


def polygons():
    ring = (
        shapely.Point(500_030, 4_999_960)
        .buffer(14)
        .difference(shapely.Point(500_030, 4_999_960).buffer(6))
    )
    return gpd.GeoDataFrame(
        {"outline_id": [7, 9], "kind": ["lake", "river"], "predicted_iou": [0.5, np.nan]},
        geometry=[ring, shapely.box(500_060, 4_999_930, 500_090, 4_999_990)],
        crs=GRID.crs.to_epsg(),
    )


@pytest.mark.parametrize("compressed", [True, False])
def test_polygons_come_back_from_coco_as_their_pixels(tmp_path, compressed):
    path = tmp_path / "out.json"
    geosam.write_coco(path, polygons().to_crs(4326), GRID, compressed=compressed)
    whole = json.loads(path.read_text())
    assert [row["id"] for row in whole["annotations"]] == [7, 9]
    assert [kind["name"] for kind in whole["categories"]] == ["lake", "river"]
    assert whole["annotations"][1]["bbox"] == [30, 5, 15, 30]
    assert whole["annotations"][1]["area"] == 450
    back = geosam.read_coco(path)
    assert back.category.tolist() == ["lake", "river"]
    assert back.crs == GRID.crs.to_epsg()
    assert back.geometry[1].equals(polygons().geometry[1])
    assert shapely.get_num_interior_rings(back.geometry[0]) == 1
    for (_, cutout), polygon in zip(geosam.read_coco_masks(path), back.geometry, strict=True):
        assert cutout.area == pytest.approx(polygon.area / 4)
    with pytest.raises(OutputError, match="exists already"):
        geosam.write_coco(path, polygons(), GRID)


def coco(tmp_path, segmentation, **image):
    whole = {
        "images": [{"id": 3, "file_name": "a.png", "height": 40, "width": 50} | image],
        "categories": [{"id": 1, "name": "pond"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "segmentation": segmentation, "score": 0.5}
        ],
    }
    path = tmp_path / "their.json"
    path.write_text(json.dumps(whole))
    return path


def test_polygons_in_pixels_of_an_annotation_tool_are_put_on_the_ground(tmp_path):
    path = coco(tmp_path, [[10, 5, 20, 5, 20, 15, 10, 15], [30, 5, 40, 5, 40, 15]])
    found = geosam.read_coco(path, GRID)
    assert found.category.tolist() == ["pond"] and found.score.tolist() == [0.5]
    square = shapely.box(500_020, 4_999_970, 500_040, 4_999_990)
    assert found.geometry[0].geom_type == "MultiPolygon"
    assert found.geometry[0].area == pytest.approx(square.area * 1.5)
    assert found.geometry[0].covers(square)
    ((_, cutout),) = geosam.read_coco_masks(path)
    assert cutout.paste((40, 50))[5:15, 10:20].all()


def test_corrupt_files_say_what_is_wrong(tmp_path):
    (tmp_path / "half.json").write_text('{"images": [')
    (tmp_path / "other.json").write_text('{"type": "FeatureCollection"}')
    cases = [
        (tmp_path / "half.json", "cannot be read as JSON"),
        (tmp_path / "other.json", "no lists of images and annotations"),
        (tmp_path / "none.json", "cannot be read as JSON"),
        (coco(tmp_path, {"size": [40, 50], "counts": [3, 4]}), "sum to 7"),
    ]
    for path, words in cases:
        with pytest.raises(InputError, match=words):
            geosam.read_coco(path, GRID)
    with pytest.raises(InputError, match=r"size \[4, 5\], and its image is"):
        geosam.read_coco(coco(tmp_path, {"size": [4, 5], "counts": [20]}), GRID)
    with pytest.raises(InputError, match="neither run lengths nor lists"):
        geosam.read_coco(coco(tmp_path, [[1, 2, 3]]), GRID)
    with pytest.raises(InputError, match="does not say where its pixels lie"):
        geosam.read_coco(coco(tmp_path, [[1, 2, 3, 4, 5, 5]]))
    with pytest.raises(InputError, match="40 x 50 pixels, and the grid 10 x 10"):
        geosam.read_coco(coco(tmp_path, [[1, 2, 3, 4, 5, 5]]), GRID[:10, :10])
    with pytest.raises(InputError, match=r"no image 'b.png'. Images: a.png"):
        geosam.read_coco(coco(tmp_path, []), GRID, image="b.png")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_what_is_no_polygon_on_the_ground_cannot_be_an_annotation(tmp_path):
    path, out = tmp_path / "in.gpkg", tmp_path / "out.json"
    write_picture(
        tmp_path / "scene.tif", np.ones((3, 40, 50), np.uint8), pixel_m=2, corner=(5e5, 5e6)
    )
    whole = polygons()
    lines = whole.set_geometry(whole.boundary)
    geosam.write_geopackage(path, outlines=whole, runs=pd.DataFrame({"command": ["segment"]}))
    pyogrio.write_dataframe(lines, path, layer="banks")
    cases = [("runs", "has no geometry"), ("banks", "holds a MultiLineString"), ("no", "no layer")]
    for layer, words in cases:
        with pytest.raises(InputError, match=words):
            convert_coco(path, out, grid=tmp_path / "scene.tif", layer=layer)
    whole.set_crs(None, allow_override=True).to_file(tmp_path / "nowhere.gpkg")
    with pytest.raises(InputError, match="no CRS"):
        convert_coco(tmp_path / "nowhere.gpkg", out, grid=tmp_path / "scene.tif")
    for odd, words in ((pd.DataFrame(), "no geometry"), (lines, "MultiLineString")):
        with pytest.raises(InputError, match=words):
            geosam.write_coco(out, odd, GRID)
    assert not out.exists()


@pytest.mark.parametrize("nothing", [None, shapely.Polygon()])
def test_rows_without_a_geometry_are_left_out(tmp_path, nothing):
    rows = polygons()
    rows.loc[0, "geometry"] = nothing
    rows.to_file(tmp_path / "in.gpkg", layer="outlines")
    write_picture(
        tmp_path / "scene.tif", np.ones((3, 40, 50), np.uint8), pixel_m=2, corner=(5e5, 5e6)
    )
    out = tmp_path / "out.json"
    written = convert_coco(tmp_path / "in.gpkg", out, grid=tmp_path / "scene.tif")
    assert written.counts == {"objects": 1}
    assert [row["id"] for row in json.loads(out.read_text())["annotations"]] == [9]


def test_polygons_in_metres_are_pixels_of_a_scene_across_the_antimeridian(tmp_path):
    grid = GeoBox((40, 50), Affine(1e-3, 0, 179.975, 0, -1e-3, 10), "EPSG:4326")
    box = shapely.box(179.985, 9.97, 180.015, 9.99)
    drawn = gpd.GeoDataFrame(geometry=[box], crs=4326).to_crs(3832)
    geosam.write_coco(tmp_path / "out.json", drawn, grid)
    (row,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert row["bbox"] == [10, 10, 30, 20]


def test_the_command_goes_both_ways(tmp_path):
    polygons().to_file(tmp_path / "in.gpkg", layer="outlines")
    write_picture(
        tmp_path / "scene.tif",
        np.ones((3, 40, 50), np.uint8),
        pixel_m=2,
        corner=(500_000, 5_000_000),
    )
    convert_coco(tmp_path / "in.gpkg", tmp_path / "out.json", grid=tmp_path / "scene.tif")
    written = convert_coco(tmp_path / "out.json", tmp_path / "back.gpkg")
    assert written.counts == {"objects": 2}
    back = gpd.read_file(tmp_path / "back.gpkg", layer="annotations")
    assert back.geometry[1].equals(polygons().geometry[1])
    with pytest.raises(OptionError, match=r"one of them must end in \.json"):
        convert_coco(tmp_path / "in.gpkg", tmp_path / "out.gpkg")
    with pytest.raises(OptionError, match="name the scene with --grid"):
        convert_coco(tmp_path / "in.gpkg", tmp_path / "new.json")
