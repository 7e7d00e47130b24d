"""Everything mode: every object of a scene once and whole, whatever the tiles."""

import json
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from scipy import ndimage

import geosam
from geosam.cli.app import app
from geosam.coco import read_coco_masks
from geosam.cutouts import mask_ious
from geosam.errors import OptionError, OutputError
from geosam.generation import masks_at
from geosam.generation_rules import GenerationRules
from geosam.models.mask_generation import recorded_rules
from geosam.segments.drawing import rings_of
from geosam.simplify import pixel_polygons
from geosam.testing import nested_objects, object_scene, write_picture

SIDE = 288
ASK = {"points_per_side": 16, "stretch": "none", "overlap": 32, "simplify": 0}
NINE, ONE = 128, 320
"""Tile sizes for which the scene is nine tiles, and one."""


@dataclass(frozen=True)
class Touch:
    """Sees the bright part under a click, as far as the tile goes."""

    size: int = NINE
    name: str = "touch"
    signature: str = "2" * 64
    fails: bool = False

    def encode(self, pixels):
        if self.fails:
            raise RuntimeError("out of luck")
        return {"bright": pixels.mean(axis=1) > 0.6}

    def decode(self, features, prompts):
        logits, scores = self.decode_all(features, prompts)
        return logits[:, 0], scores[:, 0]

    def decode_all(self, features, prompts):
        masks = []
        for bright, prompt in zip(features["bright"], prompts, strict=True):
            parts, _ = ndimage.label(bright)
            x, y = prompt.points[0, 0].astype(int)
            mask = (parts == parts[y, x]) & bright
            masks.append(np.stack([np.where(mask, 8, -8), np.full(mask.shape, -8)]))
        return np.float32(masks), np.tile(np.float32([0.95, 0.1]), (len(masks), 1))


def truth():
    """Nine objects of which some lie in one tile, and some in all of a row or a column."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return [
        np.hypot(x - 30, y - 30) < 14,
        np.hypot(x - 96, y - 60) < 18,
        (abs(x - 144) < 130) & (abs(y - 96) < 9),
        (abs(x - 20) < 10) & (abs(y - 190) < 80),
        (np.hypot(x - 160, y - 200) < 75) & (np.hypot(x - 160, y - 200) > 55),
        (abs(x - 160) < 12) & (abs(y - 192) < 12),
        np.hypot(x - 230, y - 40) < 25,
        (abs(x - 265) < 12) & (abs(y - 270) < 18),
        (abs(x - 60) < 16) & (abs(y - 270) < 10),
    ]


def written(folder, nodata_rows=0):
    pixels = np.full((3, SIDE, SIDE), 40, np.uint8)
    for mask in truth():
        pixels[:, mask] = 230
    pixels[:, SIDE - nodata_rows :] = 0
    return write_picture(folder / "scene.tif", pixels)


def find(scene, folder, size=NINE, name="out", **options):
    model = options.pop("model", Touch(size))
    found = geosam.everything(
        scene,
        folder / f"{name}.gpkg",
        model=model,
        labels=folder / f"{name}.tif",
        coco=folder / f"{name}.json",
        **ASK | options,
    )
    return found, gpd.read_file(folder / f"{name}.gpkg", layer="segments")


def cutouts(path):
    return [cutout for _, cutout in read_coco_masks(path)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything")
    scene = written(folder)
    return folder, {size: find(scene, folder, size, f"of_{size}") for size in (NINE, ONE)}


@pytest.mark.parametrize(("size", "tiles"), [(NINE, 9), (ONE, 1)])
def test_every_object_comes_back_once_and_whole_whatever_the_tiles(runs, size, tiles):
    folder, found = runs
    report, segments = found[size]
    assert report.tiles == {"done": tiles}
    assert report.segments == len(segments) == len(truth())
    masks = [cutout.paste((SIDE, SIDE)) for cutout in cutouts(folder / f"of_{size}.json")]
    for mask in truth():
        assert sum(np.array_equal(mask, other) for other in masks) == 1


def test_segments_have_the_columns_of_their_layer_and_lie_where_they_say(runs):
    _, found = runs
    segments = found[NINE][1]
    assert list(segments.columns[:-1]) == [
        "segment_id", "area_m2", "predicted_iou", "stability", "point", "tile",
    ]  # fmt: skip
    assert segments.segment_id.tolist() == list(range(1, len(segments) + 1))
    assert segments.area_m2.is_monotonic_decreasing
    assert segments.is_valid.all() and (segments.geom_type == "Polygon").all()
    points = gpd.GeoSeries.from_wkt(segments.point, crs=segments.crs)
    assert segments.geometry.covers(points, align=False).all()
    tiles = gpd.read_file(runs[0] / f"of_{NINE}.gpkg", layer="tiles")
    assert set(segments.tile) <= set(tiles.tile)
    assert (segments.predicted_iou - 0.95).abs().max() < 1e-6


def test_labels_are_the_smallest_segment_over_each_pixel(runs):
    folder, found = runs
    with rasterio.open(folder / f"of_{NINE}.tif") as file:
        labels = file.read(1)
        assert file.dtypes == ("uint32",) and file.nodata == 0
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        transform = file.transform
    segments = found[NINE][1].sort_values("area_m2", ascending=False)
    expected = rasterio.features.rasterize(
        zip(segments.geometry, segments.segment_id, strict=True), labels.shape, transform=transform
    )
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(labels > 0, np.any(truth(), axis=0))


def test_nothing_is_found_on_nodata_nor_outside_the_area_of_interest(tmp_path):
    scene = written(tmp_path, nodata_rows=30)
    with rasterio.open(scene) as file:
        west, south, east, north = file.bounds
        crs = file.crs
    half = shapely.box(west, south, west + 100, north)
    gpd.GeoDataFrame(geometry=[half], crs=crs).to_file(tmp_path / "aoi.gpkg")
    _, segments = find(scene, tmp_path)
    filled = shapely.box(west, south + 30, east, north)
    assert len(segments) == 8, "one lies on nodata, of another a part"
    assert segments.within(filled).all()
    _, inside = find(scene, tmp_path, name="aoi_out", aoi=tmp_path / "aoi.gpkg")
    assert inside.within(half.buffer(1e-6)).all()
    assert 0 < len(inside) < 8


def test_what_is_most_of_the_scene_and_what_is_tiny_goes(tmp_path):
    scene = written(tmp_path)
    areas = sorted(int(mask.sum()) for mask in truth())
    found, segments = find(
        scene, tmp_path, min_area=areas[2] * 1.01, max_share=areas[-1] / SIDE**2 * 0.99
    )
    assert found.segments == 9 - 3 - 1
    assert segments.area_m2.min() > areas[2]


def test_a_tile_that_fails_is_told_and_the_run_goes_on(tmp_path):
    found, segments = find(written(tmp_path), tmp_path, model=Touch(fails=True))
    assert found.tiles == {"failed": 9} and found.exit_status == 1
    assert len(segments) == 0
    tiles = gpd.read_file(tmp_path / "out.gpkg", layer="tiles")
    assert tiles.error.str.contains("out of luck").all()


def test_a_run_that_was_interrupted_goes_on_and_refuses_other_rules(tmp_path, monkeypatch):
    scene = written(tmp_path)

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("geosam.inventory.join", broken)
    with pytest.raises(KeyboardInterrupt, match="--resume goes on"):
        find(scene, tmp_path)
    monkeypatch.undo()
    with pytest.raises(OutputError, match=r"--pred-iou-thresh was 0\.88 and is 0\.5"):
        find(scene, tmp_path, resume=True, pred_iou_thresh=0.5)
    found, _ = find(scene, tmp_path, resume=True, model=Touch(fails=True), max_share=0.4)
    assert found.segments == 9, "the tiles were not looked at again"
    assert not (tmp_path / "out.gpkg.partial").exists()


def test_wrong_requests_say_so_and_leave_nothing(tmp_path):
    scene = written(tmp_path)
    for options, words in (
        ({"max_share": 0}, "--max-share 0 must lie above 0"),
        ({"stability_score_thresh": 2}, "--stability-score-thresh 2 must lie between 0 and 1"),
        ({"points_per_side": -1}, "--points-per-side -1 must be 0 or more"),
        ({"index": "ndwi"}, "'index' is not an option of everything mode"),
    ):
        with pytest.raises(OptionError, match=words):
            find(scene, tmp_path, **options)
    find(scene, tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        find(scene, tmp_path)
    assert not (tmp_path / "out.gpkg.partial").exists()


def test_rings_of_polygons_are_those_of_their_pixels():
    mask = truth()[4] | truth()[5]
    shapes = [
        shapely.geometry.shape(part)
        for part, value in rasterio.features.shapes(mask.astype(np.uint8), connectivity=4)
        if value
    ]
    polygons = np.array(shapes, dtype=object)
    again = pixel_polygons(rings_of(polygons))
    assert shapely.equals(again, polygons).all()


# The model as shipped


def test_river_tiny_finds_separate_objects_once_each_and_nothing_else(tmp_path):
    """Twelve objects; benchmarks/everything_quality.py has the figures of many scenes."""
    pixels, objects = object_scene((SIDE, SIDE), 12, seed=0)
    scene = write_picture(tmp_path / "scene.tif", pixels)
    found = geosam.everything(
        scene, tmp_path / "out.gpkg", coco=tmp_path / "out.json", tile_size=NINE, overlap=32
    )
    masks = cutouts(tmp_path / "out.json")
    assert found.segments == len(masks) == len(objects)
    assert (mask_ious(masks, objects).max(axis=0) >= 0.75).all()


@pytest.mark.parametrize("seed", range(3))
def test_one_click_on_nested_shapes_gives_each_of_the_three(seed):
    model = geosam.load_model("river-tiny")
    rules = GenerationRules.of({}, recorded_rules("river-tiny"))
    pixels, masks, point = nested_objects(seed)
    found = [mask.cutout.paste(masks[0].shape) for mask in masks_at(model, pixels, point, rules)]
    assert len(found) == 3
    for mask in masks:
        assert max((mask & other).sum() / (mask | other).sum() for other in found) >= 0.7


def test_a_click_in_a_scene_gives_each_of_nested_shapes_too(tmp_path):
    pixels, masks, (x, y) = nested_objects(3)
    scene = write_picture(
        tmp_path / "nested.tif", np.clip(np.rint(255 * pixels), 1, 255).astype("u1")
    )
    with rasterio.open(scene) as file:
        transform, crs = file.transform, file.crs
    click = gpd.GeoSeries([shapely.Point(transform @ (x, y))], crs=crs)
    answers = geosam.ask(scene, click, several=True, tile_size=256)
    found = [
        rasterio.features.rasterize([shape], masks[0].shape, transform=transform).astype(bool)
        for shape in answers.outlines.geometry
    ]
    assert answers.outlines.predicted_iou.is_monotonic_decreasing
    for mask in masks:
        assert max((mask & other).sum() / (mask | other).sum() for other in found) >= 0.7


def test_the_command_prints_json_and_says_what_is_wrong(tmp_path):
    pixels, _ = object_scene((128, 128), 2, seed=1)
    scene = write_picture(tmp_path / "scene.tif", pixels)
    command = ["everything", str(scene), "-o", str(tmp_path / "out.gpkg"), "-q"]
    done = CliRunner().invoke(app, [*command, "--tile-size", "128", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["segments"] == 2
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "exists already" in again.stderr
    assert "Traceback" not in again.stderr
