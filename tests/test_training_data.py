"""Labelled data of every kind becomes examples, windows and splits that do not leak."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import geosam
from geosam.decision import decide
from geosam.errors import InputError, OptionError
from geosam.export.geopackage import read_layer, write_geopackage
from geosam.options import Options
from geosam.raster import inspect_scene
from geosam.testing import FakeModel, write_scene
from geosam.training import hub
from geosam.training.crops import Crops, TrainingWindow, cut_windows, read_sample, starts
from geosam.training.examples import Example, read_examples
from geosam.training.hub import read_rows
from geosam.training.labels import AllLand, PolygonLabels
from geosam.training.places import find_places
from geosam.training.sample import IGNORE, LAND, WATER
from geosam.training.splits import Split, check_leaks, split_windows
from geosam.training.touching import touching_pairs
from geosam.types import Window
from geosam.views import view_source

torch = pytest.importorskip("torch")

DATA = Path(__file__).parents[2] / "shared" / "data"


def write_image(path: Path, values: np.ndarray, **profile) -> Path:
    """Write (band, y, x) or (y, x) values in the format of the name."""
    values = values[None] if values.ndim == 2 else values
    driver = {".png": "PNG", ".jpg": "JPEG", ".tif": "GTiff"}[path.suffix]
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver=driver, dtype=values.dtype, **size, **profile) as file:
        file.write(values)
    return path


def river(shape=(96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """A dark river across bright land: (3, y, x) uint8 and its mask."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    water = abs(rows - shape[0] / 2 - 9 * np.sin(cols / 11)) < 7
    land = rng.integers(110, 190, (3, *shape))
    return np.where(water, land // 4, land).astype(np.uint8), water.astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    pixels, mask = river()
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", pixels)
        write_image(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path


def whole(example: Example, zoom: float = 1.0):
    """Pixels and label of all of an example."""
    return example.read(example.working(zoom))


class TestFolder:
    def test_pixels_are_stretched_by_the_percentiles_of_the_whole_image(self, folder):
        pixels, label = whole(read_examples(folder)[0])
        raw, mask = river()
        low, high = np.percentile(raw.reshape(3, -1), (0.2, 99.8), axis=1)[..., None, None]
        np.testing.assert_allclose(pixels, np.clip((raw - low) / (high - low), 0, 1), atol=1e-5)
        np.testing.assert_array_equal(label, mask)

    def test_names_are_those_of_the_files_and_nothing_has_a_place(self, folder):
        examples = read_examples(folder)
        assert [e.name for e in examples] == ["a", "b"]
        assert not any(e.is_georeferenced or e.place for e in examples)

    @pytest.mark.parametrize("zoom", [2.0, 3.0])
    def test_a_finer_view_is_the_bilinear_one_of_torch(self, folder, zoom):
        pixels, label = whole(read_examples(folder)[0], zoom)
        raw, mask = river()
        stacked = np.concatenate([raw, mask[None]]).astype(np.float32)
        finer = torch.nn.functional.interpolate(
            torch.from_numpy(stacked)[None], scale_factor=zoom, mode="bilinear"
        )[0].numpy()
        stretch = read_examples(folder)[0].stretch
        np.testing.assert_allclose(pixels, stretch.apply(finer[:3]), atol=1e-4)
        np.testing.assert_array_equal(label, finer[3] >= 0.5)

    @pytest.mark.parametrize("side", [2, 4])
    def test_a_coarser_view_is_the_mean_of_blocks_and_their_majority(self, folder, side):
        example = read_examples(folder)[0]
        pixels, label = whole(example, 1 / side)
        raw, mask = (
            values.reshape(*values.shape[:-2], 96 // side, side, 128 // side, side)
            for values in river()
        )
        expected = example.stretch.apply(raw.mean((-3, -1)))
        np.testing.assert_allclose(pixels, expected, atol=1e-4)
        np.testing.assert_array_equal(label, mask.mean((-3, -1)) >= 0.5)

    @pytest.mark.parametrize("zoom", [0.25, 0.5, 1.0, 2.0])
    def test_a_window_is_a_part_of_the_whole_at_any_zoom(self, folder, zoom):
        example = read_examples(folder)[0]
        pixels, label = whole(example, zoom)
        sample = read_sample(TrainingWindow(example, Window(5, 9, 16, 16), zoom))
        np.testing.assert_allclose(sample.pixels, pixels[:, 5:21, 9:25], atol=1e-5)
        np.testing.assert_array_equal(sample.label, label[5:21, 9:25])
        assert sample.zoom == zoom

    def test_a_coarse_pixel_is_ignored_where_less_than_half_of_it_is_labelled(self, tmp_path):
        pixels, mask = river((16, 16))
        mask[:] = WATER
        mask[:2, :2] = [[IGNORE, IGNORE], [IGNORE, LAND]]
        mask[2:4, :2] = [[IGNORE, IGNORE], [WATER, LAND]]
        write_image(tmp_path / "images" / "a.png", pixels)
        write_image(tmp_path / "labels" / "a.png", mask)
        label = whole(read_examples(tmp_path)[0], 0.5)[1]
        assert (label[0, 0], label[1, 0], label[2, 0]) == (IGNORE, WATER, WATER)

    def test_an_image_smaller_than_the_window_is_padded_with_nodata(self, folder):
        (window,) = cut_windows(read_examples(folder)[:1], 160)
        sample = Crops([window])[0]
        assert sample.pixels.shape == (3, 160, 160) and sample.pixels.dtype == np.float32
        outside = np.ones((160, 160), bool)
        outside[:96, :128] = False
        assert (sample.pixels[:, outside] == 0.5).all() and (sample.label[outside] == IGNORE).all()
        np.testing.assert_array_equal(sample.label[:96, :128], river()[1])

    def test_a_black_collar_that_the_mask_ignores_is_nodata(self, tmp_path):
        pixels, mask = river()
        pixels[:, :, :20], mask[:, :20] = 0, IGNORE
        pixels[:, 40:60, 60:80], mask[40:60, 60:80] = 0, WATER
        write_image(tmp_path / "images" / "a.png", pixels)
        write_image(tmp_path / "masks" / "a.png", mask)
        shown, label = whole(read_examples(tmp_path)[0])
        assert (shown[:, :, :20] == 0.5).all() and (shown[:, 40:60, 60:80] == 0).all()
        np.testing.assert_array_equal(label, mask)

    def test_a_black_collar_that_is_labelled_as_water_stays(self, tmp_path):
        pixels, mask = river()
        pixels[:, :, :20], mask[:, :20] = 0, WATER
        mask[0, -1] = IGNORE
        write_image(tmp_path / "images" / "a.png", pixels)
        write_image(tmp_path / "masks" / "a.png", mask)
        shown, label = whole(read_examples(tmp_path)[0])
        assert (shown[:, :, :20] == 0).all() and (label[:, :20] == WATER).all()

    def test_bands_with_a_near_infrared_are_seen_in_colour_infrared(self, tmp_path):
        values = np.arange(5 * 64).reshape(5, 8, 8).astype(np.int16)
        path = write_image(tmp_path / "images" / "a.tif", values)
        with rasterio.open(path, "r+") as file:
            file.descriptions = ["blue", "green", "red", "nir", "swir1"]
        write_image(tmp_path / "masks" / "a.png", np.eye(8, dtype=np.uint8))
        example = read_examples(tmp_path)[0]
        assert example.composite == ("nir", "red", "green")
        assert example.stretch.low[0] >= values[3].min()
        own = read_examples(tmp_path, options=Options(composite="red,green,blue"))[0]
        np.testing.assert_allclose(own.stretch.high[2], np.percentile(values[0], 99.8), rtol=1e-5)

    def test_images_without_mask_are_refused_skipped_or_land(self, folder):
        (folder / "masks" / "b.png").unlink()
        with pytest.raises(InputError, match=r"b\.png has no mask \(1 of 2"):
            read_examples(folder)
        assert [e.name for e in read_examples(folder, unmatched="skip")] == ["a"]
        label = whole(read_examples(folder, unmatched="land")[1])[1]
        assert (label == LAND).all()

    def test_other_values_can_be_water(self, folder):
        mask = river()[1]
        write_image(folder / "masks" / "a.png", mask * 255)
        write_image(folder / "masks" / "b.png", mask * 255)
        with pytest.raises(InputError, match="--water-value 255"):
            read_examples(folder)
        as_water = whole(read_examples(folder, water_value=255)[0])[1]
        np.testing.assert_array_equal(as_water, mask)
        as_ignored = whole(read_examples(folder, water_value=1)[0])[1]
        np.testing.assert_array_equal(as_ignored, mask * 255)

    def test_a_dry_mask_with_ignored_pixels_is_clear_where_another_holds_water(self, folder):
        write_image(folder / "masks" / "b.png", river()[1] * 255)
        label = whole(read_examples(folder)[1])[1]
        assert set(np.unique(label)) == {LAND, IGNORE}

    def test_a_mask_of_another_size_is_refused(self, folder):
        write_image(folder / "masks" / "b.png", np.zeros((90, 128), np.uint8))
        with pytest.raises(InputError, match=r"masks/b\.png has 128 x 90 .* 128 x 96"):
            read_examples(folder)

    def test_a_mask_with_an_unknown_value_is_refused(self, folder):
        mask = river()[1]
        mask[3, 3] = 7
        write_image(folder / "masks" / "b.png", mask)
        with pytest.raises(InputError, match=r"b\.png holds the value 7"):
            read_examples(folder)

    def test_a_mask_in_colours_is_refused(self, folder):
        write_image(folder / "masks" / "b.png", river()[0])
        with pytest.raises(InputError, match=r"b\.png is in colours"):
            read_examples(folder)

    def test_a_mask_that_lies_elsewhere_than_its_image_is_refused(self, tmp_path):
        pixels, mask = river()
        grid = {"crs": "EPSG:32633", "transform": Affine(2, 0, 4e5, 0, -2, 5e6)}
        write_image(tmp_path / "images" / "a.tif", pixels, **grid)
        write_image(tmp_path / "masks" / "a.tif", mask, **grid)
        assert read_examples(tmp_path)[0].is_georeferenced
        moved = grid | {"transform": Affine(2, 0, 4e5 + 2, 0, -2, 5e6)}
        write_image(tmp_path / "masks" / "a.tif", mask, **moved)
        with pytest.raises(InputError, match="lies elsewhere"):
            read_examples(tmp_path)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "movie"}, "'movie' is unknown"),
            ({"unmatched": "guess"}, "'guess' is unknown"),
            ({"water_value": 0}, "from 1 to 255"),
            ({"places": "by eye"}, "not understood"),
        ],
    )
    def test_an_option_outside_its_rule_is_refused(self, folder, options, message):
        with pytest.raises(OptionError, match=message):
            read_examples(folder, **options)

    def test_a_folder_without_images_or_masks_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            read_examples(tmp_path / "nothing")
        with pytest.raises(InputError, match="no folder images"):
            read_examples(tmp_path)
        write_image(tmp_path / "images" / "a.png", river()[0])
        with pytest.raises(InputError, match="no folder masks"):
            read_examples(tmp_path)

    @pytest.mark.parametrize("zoom", [0.7, 1.5, 0.0, -2.0])
    def test_a_zoom_that_is_no_whole_number_is_refused(self, folder, zoom):
        with pytest.raises(OptionError, match="--zoom"):
            cut_windows(read_examples(folder), 32, zoom=zoom)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> tuple[Path, Path]:
    """A scene of 2 m with an empty corner, and its truth."""
    return write_scene(tmp_path_factory.mktemp("scene"), shape=(256, 320), seed=3, resolution_m=2)


@pytest.fixture(scope="module")
def polygons(scene) -> gpd.GeoDataFrame:
    return geosam.outlines(scene[1], min_area=0, simplify=0)


@pytest.fixture
def vectors(polygons, tmp_path) -> Path:
    """Polygons of the water, in degrees."""
    polygons.to_crs(4326).to_file(tmp_path / "water.geojson")
    return tmp_path / "water.geojson"


def read_truth(scene) -> np.ndarray:
    with rasterio.open(scene[1]) as file:
        return file.read(1)


class TestScene:
    def test_polygons_in_another_crs_give_the_truth_on_the_scenes_grid(self, scene, vectors):
        (example,) = read_examples(scene[0], labels=vectors)
        pixels, label = whole(example)
        truth = read_truth(scene)
        assert (label != truth).mean() < 1e-3
        empty = truth == IGNORE
        assert (label[empty] == IGNORE).all() and (pixels[:, empty] == 0.5).all()
        assert (label[~empty] != IGNORE).all()

    def test_polygons_in_metres_lie_in_a_scene_across_the_antimeridian(self, scene, tmp_path):
        affine = Affine(2e-5, 0, 179.9968, 0, -2e-5, -17)
        for path, name in zip(scene, ("scene.tif", "truth.tif"), strict=True):
            with rasterio.open(path) as old:
                profile, values, bands = old.profile, old.read(), old.descriptions
            profile |= {"crs": "EPSG:4326", "transform": affine}
            with rasterio.open(tmp_path / name, "w", **profile) as new:
                new.write(values)
                new.descriptions = bands
        water = geosam.outlines(tmp_path / "truth.tif", min_area=0, simplify=0)
        water.to_crs(32701).to_file(tmp_path / "water.gpkg")
        (example,) = read_examples(tmp_path / "scene.tif", labels=tmp_path / "water.gpkg")
        assert (whole(example)[1] != read_truth(scene)).mean() < 1e-3

    def test_burning_takes_the_pixels_whose_centre_shapely_finds_inside(self):
        grid = GeoBox((40, 50), Affine(2, 0, 1000, 0, -2, 2000), "EPSG:32633")
        star = (
            shapely.Point(1043.37, 1961.73)
            .buffer(30, quad_segs=2)
            .difference(shapely.Point(1050.19, 1955.41).buffer(9))
        )
        label = PolygonLabels((star,), (WATER,), grid).burn(grid)
        cols, rows = np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5)
        np.testing.assert_array_equal(
            label, shapely.contains_xy(star, *(grid.affine @ (cols, rows)))
        )

    def test_a_finer_grid_is_burnt_itself(self):
        grid = GeoBox((16, 16), Affine(4, 0, 0, 0, -4, 64), "EPSG:32633")
        finer = GeoBox((32, 32), Affine(2, 0, 0, 0, -2, 64), "EPSG:32633")
        half = shapely.box(0, 0, 30, 64)
        water, known = PolygonLabels((half,), (WATER,), grid).shares(finer)
        assert (water[:, :15] == 1).all() and (water[:, 15:] == 0).all() and (known == 1).all()

    def test_outside_the_labelled_area_nothing_is_known(self, scene, vectors, tmp_path):
        with rasterio.open(scene[0]) as file:
            left, _, _, top = file.bounds
        area = shapely.box(left, top - 100, left + 200, top)
        gpd.GeoSeries([area], crs="EPSG:32633").to_crs(3857).to_file(tmp_path / "area.gpkg")
        (example,) = read_examples(scene[0], labels=vectors, labelled=tmp_path / "area.gpkg")
        label = whole(example)[1]
        inside = np.zeros(label.shape, bool)
        inside[:50, :100] = True
        assert (label[~inside] == IGNORE).all()
        assert (label[inside] != read_truth(scene)[inside]).mean() < 0.01
        windows = cut_windows([example], 64, zoom=1)
        assert {w.window.row for w in windows} == {0} and len(windows) == 2

    def test_a_column_says_what_is_land_and_what_is_ignored(self, scene, tmp_path):
        with rasterio.open(scene[0]) as file:
            left, _, _, top = file.bounds
        boxes = [
            shapely.box(left + 2 * a, top - 2 * b, left + 2 * b, top - 2 * a)
            for a, b in ((0, 60), (20, 40), (25, 30))
        ]
        table = gpd.GeoDataFrame({"label": [1, 0, 255]}, geometry=boxes, crs="EPSG:32633")
        table.to_file(tmp_path / "labels.gpkg")
        label = whole(read_examples(scene[0], labels=tmp_path / "labels.gpkg")[0])[1]
        assert [label[i, i] for i in (10, 22, 27, 70)] == [WATER, LAND, IGNORE, LAND]
        table.assign(label=[1, 0, 3]).to_file(tmp_path / "wrong.gpkg")
        with pytest.raises(InputError, match="label 3"):
            read_examples(scene[0], labels=tmp_path / "wrong.gpkg")

    def test_polygons_elsewhere_are_refused(self, scene, tmp_path):
        far = gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326)
        far.to_file(tmp_path / "far.geojson")
        with pytest.raises(InputError, match="lie outside"):
            read_examples(scene[0], labels=tmp_path / "far.geojson")

    def test_a_scene_without_polygons_is_refused(self, scene):
        with pytest.raises(OptionError, match="Name polygons with --labels"):
            read_examples(scene[0])

    def test_it_is_seen_as_inference_sees_it(self, scene, vectors):
        (example,) = read_examples(scene[0], labels=vectors, options=Options(resolution=4.0))
        views = view_source(inspect_scene(scene[0]), 4.0)
        decision = decide(views, Options())
        assert (example.composite, example.stretch) == (decision.composite, decision.stretch)
        assert example.zoom() == 0.5
        working = views.working
        assert example.working(example.zoom()) == working.odc.geobox
        shown = decision.stretch.apply(working.sel(band=list(decision.composite)).values)
        np.testing.assert_allclose(whole(example, 0.5)[0], shown, atol=1e-6)

    def test_a_satellite_scene_is_seen_at_twice_its_resolution(self, tmp_path):
        scene, _ = write_scene(tmp_path, shape=(256, 256), resolution_m=10)
        geosam.outlines(tmp_path / "truth.tif").to_file(tmp_path / "water.gpkg")
        assert read_examples(scene, labels=tmp_path / "water.gpkg")[0].zoom() == 2


@pytest.fixture(scope="module")
def segmented(tmp_path_factory) -> Path:
    """A scene and the GeoPackage that a run wrote of it."""
    folder = tmp_path_factory.mktemp("run")
    scene, _ = write_scene(folder, shape=(256, 256), seed=5)
    geosam.run(
        scene,
        folder / "rivers.gpkg",
        model=FakeModel(),
        composite="red,green,blue",
        stretch="0,0.5",
    )
    return folder


@pytest.fixture
def corrected(segmented, tmp_path) -> Path:
    for name in ("scene.tif", "rivers.gpkg"):
        (tmp_path / name).write_bytes((segmented / name).read_bytes())
    return tmp_path / "rivers.gpkg"


class TestGeoPackage:
    def test_the_outlines_are_the_label_and_the_run_says_how_it_is_seen(self, corrected):
        (example,) = read_examples(corrected)
        assert example.composite == ("red", "green", "blue") and example.stretch.high == (0.5,) * 3
        outlines = read_layer(corrected, "outlines")
        label = whole(example)[1]
        cols, rows = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5)
        x, y = example.geobox.affine @ (cols, rows)
        water = outlines.union_all()
        inside = shapely.contains_xy(water, x, y)
        # A centre on the line itself may go either way.
        known = (label != IGNORE) & (shapely.distance(shapely.points(x, y), water.boundary) > 1e-6)
        assert known.mean() > 0.8
        assert inside.any() and (label[known] == inside[known]).all()

    def test_a_correction_changes_the_label(self, corrected):
        before = whole(read_examples(corrected)[0])[1]
        outlines = read_layer(corrected, "outlines")
        largest = outlines.area.idxmax()
        write_geopackage(corrected, append=True, outlines=outlines.drop(index=largest))
        after = whole(read_examples(corrected)[0])[1]
        assert (before == WATER).sum() - (after == WATER).sum() == pytest.approx(
            outlines.area[largest], rel=0.05
        )

    def test_a_tile_that_failed_is_ignored(self, corrected):
        tiles = read_layer(corrected, "tiles")
        tiles.loc[tiles.index[3], "status"] = "failed"
        write_geopackage(corrected, append=True, tiles=tiles)
        (example,) = read_examples(corrected)
        cols, rows = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5)
        inside = shapely.contains_xy(
            tiles.geometry.iloc[3], *(example.geobox.affine @ (cols, rows))
        )
        label = whole(example)[1]
        assert inside.any() and (label[inside] == IGNORE).all() and (label[~inside] != IGNORE).any()

    def test_a_scene_that_moved_along_is_found_and_one_that_is_gone_is_not(
        self, corrected, segmented
    ):
        runs = read_layer(corrected, "runs")
        write_geopackage(corrected, append=True, runs=runs.assign(scene="/gone/scene.tif"))
        key = read_examples(corrected)[0].imagery.key
        assert Path(key) == corrected.parent / "scene.tif"
        (corrected.parent / "scene.tif").unlink()
        with pytest.raises(InputError, match=r"scene\.tif of .*rivers\.gpkg is gone"):
            read_examples(corrected)
        moved = read_examples(corrected, scene=segmented / "scene.tif")
        assert Path(moved[0].imagery.key) == segmented / "scene.tif"

    def test_a_scene_that_has_changed_is_refused_unless_it_is_named(self, corrected, segmented):
        runs = read_layer(corrected, "runs")
        write_geopackage(corrected, append=True, runs=runs.assign(scene_fingerprint="0" * 64))
        with pytest.raises(InputError, match="have changed"):
            read_examples(corrected)
        assert read_examples(corrected, scene=segmented / "scene.tif")

    def test_one_that_no_run_wrote_is_refused(self, vectors, tmp_path):
        path = tmp_path / "other.gpkg"
        gpd.read_file(vectors).to_file(path)
        with pytest.raises(InputError, match="no layer runs"):
            read_examples(path)
        assert pyogrio.list_layers(path).shape == (1, 2)


class TestRows:
    def rows(self):
        pixels, mask = river((60, 80))
        image = np.moveaxis(pixels, 0, -1)
        return [{"image": image, "label": mask, "name": f"r{i}", "place": i // 2} for i in range(4)]

    def test_rows_give_their_pixels_labels_names_and_places(self):
        examples = read_rows(self.rows(), Options(), None, "table")
        assert [(e.name, e.place) for e in examples][2:] == [("r2", "1"), ("r3", "1")]
        pixels, label = whole(examples[0])
        raw, mask = river((60, 80))
        np.testing.assert_array_equal(label, mask)
        np.testing.assert_allclose(pixels, examples[0].stretch.apply(raw), atol=1e-6)
        assert len(cut_windows(examples, 64)) == 8

    def test_a_row_is_seen_as_the_same_image_in_a_folder(self, folder):
        pixels, mask = river()
        row = {"image": np.moveaxis(pixels, 0, -1), "label": mask}
        (example,) = read_rows([row], Options(), None, "table")
        for zoom in (0.5, 1.0, 2.0):
            for mine, theirs in zip(
                whole(example, zoom), whole(read_examples(folder)[0], zoom), strict=True
            ):
                np.testing.assert_allclose(mine, theirs, atol=1e-5)

    def test_transparent_pixels_of_a_row_are_unknown_and_the_rest_is_red_green_and_blue(self):
        from PIL import Image

        pixels, mask = river()
        opacity = np.full(mask.shape, 255, np.uint8)
        opacity[:, :30] = 0
        image = Image.fromarray(np.moveaxis(np.stack([*pixels, opacity]), 0, -1), "RGBA")
        label = Image.fromarray(np.stack([mask, mask, mask, opacity], -1), "RGBA")
        (seen,) = read_rows([{"image": image, "label": label}], Options(), None, "table")
        (plain,) = read_rows(
            [{"image": image.convert("RGB"), "label": mask}], Options(), None, "table"
        )
        assert (seen.imagery.roles, seen.composite) == (plain.imagery.roles, plain.composite)
        assert (whole(seen)[1][:, :30] == IGNORE).all()
        np.testing.assert_array_equal(whole(seen)[1][:, 30:], mask[:, 30:])

    def test_a_row_without_an_image_is_named(self):
        rows = self.rows()
        rows[1]["image"] = None
        with pytest.raises(InputError, match="row 1: column image is empty"):
            read_rows(rows, Options(), None, "table")

    def test_rows_without_names_of_two_tables_have_names_of_their_own(self):
        rows = [{name: row[name] for name in ("image", "label")} for row in self.rows()]
        named = [read_rows(rows, Options(), None, part, f"{part}_") for part in ("train", "test")]
        assert len({example.name for part in named for example in part}) == 8

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            (None, "row 1: column label is empty"),
            (np.zeros((60, 81), np.uint8), "row 1 has 81 x 60"),
            (np.full((60, 80), 4, np.uint8), "row 1 holds the value 4"),
        ],
    )
    def test_a_row_with_a_wrong_mask_is_named(self, label, message):
        rows = self.rows()
        rows[1]["label"] = label
        with pytest.raises(InputError, match=message):
            read_rows(rows, Options(), None, "table")

    def test_without_the_package_one_sentence_says_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "datasets", None)
        (tmp_path / "state.json").write_text("{}")
        with pytest.raises(InputError, match=r"geosam-toolkit\[datasets\]"):
            read_examples(tmp_path)

    def test_what_the_package_saved_is_read_back(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        image = pytest.importorskip("PIL.Image")
        rows = [
            row | {k: image.fromarray(row[k]) for k in ("image", "label")} | {"place": "p"}
            for row in self.rows()
        ]
        table = datasets.Dataset.from_list(
            rows,
            features=datasets.Features(
                image=datasets.Image(),
                label=datasets.Image(),
                name=datasets.Value("string"),
                place=datasets.Value("string"),
            ),
        )
        table.save_to_disk(tmp_path / "saved")
        table.to_parquet(tmp_path / "table.parquet")
        for source in (tmp_path / "saved", tmp_path / "table.parquet"):
            examples = read_examples(source)
            assert [e.name for e in examples] == ["r0", "r1", "r2", "r3"]
            np.testing.assert_array_equal(whole(examples[3])[1], river((60, 80))[1])
        table.remove_columns("label").save_to_disk(tmp_path / "bare")
        with pytest.raises(InputError, match="no column label"):
            hub.read_hub(tmp_path / "bare", Options(), None)


class TestWindows:
    @given(length=st.integers(1, 500), size=st.integers(1, 200), share=st.floats(0, 0.9))
    def test_starts_cover_a_length_without_a_gap(self, length, size, share):
        overlap = int(share * size)
        at = starts(length, size, overlap)
        covered = np.zeros(max(length, size), int)
        for start in at:
            covered[start : start + size] += 1
        assert (covered > 0).all() and at[-1] + size == max(length, size)
        assert all(a + size - b >= overlap for a, b in itertools.pairwise(at))

    def test_shares_are_those_of_the_pixels(self, folder):
        windows = cut_windows(read_examples(folder)[:1], 32)
        assert len(windows) == 12
        for window in windows:
            label = read_sample(window).label
            assert window.water == pytest.approx((label == WATER).mean(), abs=1e-6)
            assert window.land == pytest.approx((label == LAND).mean(), abs=1e-6)

    def test_windows_of_which_nothing_is_known_are_left_out(self, folder):
        mask = river()[1]
        mask[:, :64] = IGNORE
        write_image(folder / "masks" / "a.png", mask)
        windows = cut_windows(read_examples(folder)[:1], 32)
        assert {w.window.col for w in windows} == {64, 96}
        mask[:] = IGNORE
        write_image(folder / "masks" / "a.png", mask)
        with pytest.raises(InputError, match="None of 12 windows has a label"):
            cut_windows(read_examples(folder)[:1], 32)

    def test_an_overlap_as_large_as_the_window_is_refused(self, folder):
        with pytest.raises(OptionError, match="Overlap 32 px"):
            cut_windows(read_examples(folder), 32, overlap=32)

    def test_samples_are_kept_while_there_is_room(self, folder):
        windows = cut_windows(read_examples(folder)[:1], 32)
        one = 32 * 32 * (3 * 4 + 1)
        crops = Crops(windows, cache_bytes=2 * one)
        assert crops[0] is crops[0] and crops[-1] is crops[11]
        assert crops[5] is not crops[5]
        np.testing.assert_array_equal(crops[5].pixels, Crops(windows, cache_bytes=0)[5].pixels)
        assert len(list(crops)) == len(crops) == 12


@dataclass(frozen=True)
class Blank:
    """An image without pixels, for what only asks where windows lie."""

    key: str
    geobox: GeoBox
    roles: tuple[str, ...] = ("red", "green", "blue")

    def read(self, geobox: GeoBox) -> np.ndarray:
        return np.zeros((3, *geobox.shape), np.float32)

    def preview(self) -> xr.DataArray:
        coords = {"band": list(self.roles), **xr_coords(self.geobox)}
        return xr.DataArray(self.read(self.geobox), coords, ("band", "y", "x"))


def blank(name, shape=(100, 100), place=None, affine=None, crs=None) -> Example:
    grid = GeoBox(shape, affine or Affine.identity(), crs)
    return Example(name, place, Blank(name, grid), AllLand(), Options())


def window(example, row, col, size=10, zoom=1.0, water=0.5) -> TrainingWindow:
    return TrainingWindow(example, Window(row, col, size, size), zoom, 1 - water, water)


def grid_of(example, size=10, **kwargs) -> list[TrainingWindow]:
    height, width = example.geobox.shape
    return [
        window(example, row, col, size, **kwargs)
        for row in range(0, height - size + 1, size)
        for col in range(0, width - size + 1, size)
    ]


def touch_by_hand(a: TrainingWindow, b: TrainingWindow) -> bool:
    """Whether two squares of whole pixels share a pixel or have pixels side by side."""
    if a.example.name != b.example.name:
        return False
    cells = [
        {
            (row, col)
            for row in range(max(w.window.row, 0), min(w.window.row_end, 30))
            for col in range(max(w.window.col, 0), min(w.window.col_end, 30))
        }
        for w in (a, b)
    ]
    grown = {(r + i, c + j) for r, c in cells[0] for i in (-1, 0, 1) for j in (-1, 0, 1)}
    return bool(grown & cells[1])


places = st.tuples(st.integers(0, 1), st.integers(0, 28), st.integers(0, 28), st.integers(2, 9))


class TestLeaks:
    @settings(max_examples=150, deadline=None)
    @given(
        first=st.lists(places, min_size=1, max_size=5),
        second=st.lists(places, min_size=1, max_size=5),
        on_ground=st.booleans(),
        into_test=st.booleans(),
    )
    def test_a_leak_is_found_exactly_where_counting_pixels_finds_one(
        self, first, second, on_ground, into_test
    ):
        ground = {"affine": Affine(3, 0, 5e5, 0, -3, 5e6), "crs": "EPSG:32633"}
        far = {"affine": Affine(3, 0, 6e5, 0, -3, 5e6), "crs": "EPSG:32633"}
        images = [
            blank(n, (30, 30), **(g if on_ground else {}))
            for n, g in zip("ab", (ground, far), strict=True)
        ]
        train, held = (
            tuple(window(images[k], row, col, size) for k, row, col, size in drawn)
            for drawn in (first, second)
        )
        split = Split(train, () if into_test else held, held if into_test else (), "scene")
        by_hand = {
            (i, j)
            for (i, a), (j, b) in itertools.product(enumerate(train), enumerate(held))
            if touch_by_hand(a, b)
        }
        assert set(touching_pairs(train, held)) == by_hand
        if by_hand:
            with pytest.raises(InputError, match="touches"):
                check_leaks(split)
        else:
            check_leaks(split)

    def test_windows_of_one_image_at_two_zooms_are_compared_in_its_pixels(self):
        image = blank("a")
        coarse = window(image, 0, 0, 20, zoom=0.5)
        assert touching_pairs([coarse], [window(image, 80, 0, 10, zoom=2.0)]) == [(0, 0)]
        assert touching_pairs([coarse], [window(image, 82, 0, 10, zoom=2.0)]) == []

    def test_what_overhangs_an_image_does_not_count(self):
        crs, step = "EPSG:32633", Affine.translation(120, 0)
        west = Affine(1, 0, 5e5, 0, -1, 5e6)
        a, b = blank("a", affine=west, crs=crs), blank("b", affine=west @ step, crs=crs)
        assert touching_pairs([window(a, 0, 90, 40)], [window(b, 0, 0)]) == []

    def test_images_in_two_crs_that_show_the_same_ground_touch(self):
        a = blank("a", affine=Affine(10, 0, 499_000, 0, -10, 5_000_000), crs="EPSG:32633")
        lon, lat = (
            gpd.GeoSeries(gpd.points_from_xy([499_500], [4_999_500]), crs=32633)
            .to_crs(4326)[0]
            .coords[0]
        )
        b = blank("b", affine=Affine(1e-4, 0, lon, 0, -1e-4, lat), crs="EPSG:4326")
        assert touching_pairs([window(a, 45, 45)], [window(b, 0, 0)]) == [(0, 0)]
        assert touching_pairs([window(a, 0, 0)], [window(b, 0, 0)]) == []

    def test_neighbouring_images_on_the_ground_touch_along_their_edge(self):
        west = Affine(0.5, 0, 5e5, 0, -0.5, 5e6)
        a = blank("a", affine=west, crs="EPSG:32633")
        b = blank("b", affine=west @ Affine.translation(100, 30), crs="EPSG:32633")
        c = blank("c", affine=west @ Affine.translation(101, 30), crs="EPSG:32633")
        assert touching_pairs([window(a, 35, 90)], [window(b, 0, 0)]) == [(0, 0)]
        assert touching_pairs([window(a, 35, 90)], [window(c, 0, 0)]) == []

    def test_a_place_in_two_parts_is_named_with_both_images(self):
        a, b = blank("june", place="delta"), blank("july", place="delta")
        split = Split((window(a, 0, 0),), (window(b, 50, 50),), (), "scene")
        with pytest.raises(
            InputError, match=r"place delta is in train \(june\) and in val \(july\)"
        ):
            check_leaks(split)


class TestSplits:
    def images(self, n=20, **kwargs) -> list[TrainingWindow]:
        return [w for i in range(n) for w in grid_of(blank(f"i{i:02d}", (20, 20), **kwargs))]

    def test_all_windows_of_an_image_are_in_one_part_near_the_shares(self):
        windows = self.images()
        split = split_windows(windows, by="scene")
        names = split.to_dict()
        assert sorted(itertools.chain(*names.values())) == [f"i{i:02d}" for i in range(20)]
        assert [len(names[part]) for part in ("train", "val", "test")] == [14, 3, 3]
        assert split.dropped == 0

    def test_the_seed_decides(self):
        windows = self.images()
        one, same, other = (
            split_windows(windows, by="scene", seed=seed).to_dict() for seed in (1, 1, 2)
        )
        assert one == same != other

    def test_images_of_one_place_stay_together(self):
        examples = [blank(f"d{i}", (20, 20), place=f"p{i % 5}") for i in range(20)]
        split = split_windows([w for e in examples for w in grid_of(e)])
        assert split.by == "place"
        found = [{w.example.place for w in part} for part in (split.train, split.val, split.test)]
        assert all(found) and sum(map(len, found)) == 5

    def test_a_part_is_not_left_without_water_where_another_draw_gives_it_some(self):
        images = [blank(f"i{i}", (20, 20)) for i in range(12)]
        windows = [w for i, e in enumerate(images) for w in grid_of(e, water=0.3 * (i < 3))]
        for seed in range(5):
            split = split_windows(windows, by="scene", seed=seed)
            for part in (split.train, split.val, split.test):
                assert any(w.water > 0 for w in part)

    def test_water_that_is_not_enough_for_all_parts_goes_to_train_and_validation(self):
        images = [blank(f"i{i}", (20, 20)) for i in range(10)]
        windows = [w for i, e in enumerate(images) for w in grid_of(e, water=0.3 * (i < 2))]
        for seed in range(12):
            split = split_windows(windows, by="scene", seed=seed)
            wet = [any(w.water > 0 for w in part) for part in (split.train, split.val, split.test)]
            assert wet == [True, True, False]

    def test_by_block_no_validation_window_overlaps_a_test_window(self):
        windows = cut_windows([blank("a", (130, 130))], 26)
        windows = [replace(w, water=0.5, land=0.5) for w in windows]
        for seed in range(4):
            split = split_windows(windows, by="block", seed=seed)
            assert split.val and split.test
            for a, b in itertools.product(split.val, split.test):
                assert a.window.intersection(b.window) is None

    @settings(max_examples=25, deadline=None)
    @given(
        rows=st.integers(5, 12),
        cols=st.integers(5, 12),
        size=st.sampled_from([10, 13]),
        seed=st.integers(0, 9),
    )
    def test_by_block_no_training_window_touches_another_part(self, rows, cols, size, seed):
        image = blank("a", (rows * 10, cols * 10))
        windows = cut_windows([image], size)
        windows = [replace(w, water=0.5, land=0.5) for w in windows]
        split = split_windows(windows, seed=seed)
        assert split.by == "block" and split.train and split.val and split.test
        for a, b in itertools.product(split.train, split.val + split.test):
            gap_row = max(a.window.row, b.window.row) - min(a.window.row_end, b.window.row_end)
            gap_col = max(a.window.col, b.window.col) - min(a.window.col_end, b.window.col_end)
            assert max(gap_row, gap_col) > 0
        kept = len(split.train) + len(split.val) + len(split.test)
        assert kept + split.dropped == len(windows)
        assert kept > 0.4 * len(windows)

    def test_dates_of_one_scene_share_their_blocks(self):
        ground = {"affine": Affine(2, 0, 5e5, 0, -2, 5e6), "crs": "EPSG:32633", "place": "reach"}
        windows = [w for year in "abc" for w in grid_of(blank(year, **ground))]
        split = split_windows(windows)
        assert split.by == "block"
        where = {}
        for part in ("train", "val", "test"):
            for w in getattr(split, part):
                where.setdefault((w.window.row, w.window.col), set()).add(part)
        assert all(len(parts) == 1 for parts in where.values())

    def test_images_that_touch_on_the_ground_are_split_by_block_and_not_by_scene(self):
        affine = Affine(1, 0, 5e5, 0, -1, 5e6)
        images = [
            blank(f"{i}{j}", (20, 20), affine=affine @ Affine.translation(20 * j, 20 * i), crs="EPSG:32633")
            for i in range(6) for j in range(6)
        ]  # fmt: skip
        windows = [w for image in images for w in grid_of(image)]
        assert split_windows(windows).by == "block"
        with pytest.raises(InputError, match="Split by block"):
            split_windows(windows, by="scene")

    def test_a_split_file_is_followed(self, tmp_path):
        windows = self.images(4)
        names = {"train": ["i00", "i03"], "val": ["i01"], "test": ["i02"]}
        (tmp_path / "split.json").write_text(json.dumps(names))
        (tmp_path / "several.json").write_text(json.dumps({"mine": names}))
        for by in (tmp_path / "split.json", f"{tmp_path / 'several.json'}:mine"):
            split = split_windows(windows, by=by)
            assert split.to_dict() == names and split.by == "file"

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"train": ["i00"], "val": ["i01"], "test": ["i02"]}, "i03 is in no part"),
            ({"train": ["i00", "i01"], "val": ["i01", "i02", "i03"]}, "leaks: i01 is in two parts"),
            ({"train": ["i00", "i01", "i02", "i03"], "val": []}, "validation part is empty"),
            ({"set": {"train": []}}, "must hold lists of names"),
            ([1], "must hold lists of names"),
        ],
    )
    def test_a_wrong_split_file_is_refused(self, tmp_path, table, message):
        (tmp_path / "split.json").write_text(json.dumps(table))
        with pytest.raises(InputError, match=message):
            split_windows(self.images(4), by=tmp_path / "split.json")

    def test_a_split_file_that_leaks_on_the_ground_is_refused(self, tmp_path):
        affine = Affine(1, 0, 5e5, 0, -1, 5e6)
        a, b = (blank(name, (20, 20), affine=affine, crs="EPSG:32633") for name in "ab")
        names = {"train": ["a"], "val": ["b"], "test": []}
        (tmp_path / "split.json").write_text(json.dumps(names))
        with pytest.raises(InputError, match=r"of a of train touches .* of b of val"):
            split_windows(grid_of(a) + grid_of(b), by=tmp_path / "split.json")

    @pytest.mark.parametrize(("water", "lacking"), [(0.0, "water"), (1.0, "land")])
    def test_training_windows_without_a_class_are_refused(self, water, lacking):
        windows = [replace(w, water=water, land=1 - water) for w in self.images()]
        with pytest.raises(InputError, match=f"has no {lacking}"):
            split_windows(windows)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"by": "colour"}, "'colour' is not understood"),
            ({"shares": (0.5, 0.5, 0.5)}, "sum to 1"),
            ({"shares": (1.0, 0.0, 0.0)}, "above 0"),
        ],
    )
    def test_an_option_outside_its_rule_is_refused(self, options, message):
        with pytest.raises(OptionError, match=message):
            split_windows(self.images(4), **options)

    def test_too_few_images_for_the_parts_are_refused(self):
        with pytest.raises(InputError, match="2 scenes for 3 parts"):
            split_windows(self.images(2), by="scene")
        split = split_windows(self.images(2), by="scene", shares=(0.5, 0.5, 0.0))
        assert split.train and split.val and not split.test

    def test_too_few_windows_for_blocks_are_refused(self):
        with pytest.raises(InputError, match="too few to split by block"):
            split_windows(grid_of(blank("a", (20, 20))))


class TestPlaces:
    def test_a_prefix_is_the_first_parts_of_a_name(self):
        names = ["tile1_part001", "ortho_10336_38304", "a-b_c"]
        assert list(find_places("prefix", names).values()) == ["tile1", "ortho", "a"]
        assert list(find_places("prefix:2", names).values()) == [
            "tile1_part001",
            "ortho_10336",
            "a-b",
        ]

    def test_a_table_gives_the_places_of_examples(self, folder):
        (folder / "places.json").write_text(json.dumps({"a": 7, "b": 7}))
        assert {e.place for e in read_examples(folder, places=folder / "places.json")} == {"7"}
        with pytest.raises(InputError, match=r"b has no place \(1 of 2"):
            read_examples(folder, places={"a": 1})


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the labelled sets beside the project")
class TestRealData:
    def test_the_fixed_split_of_aerial_images_is_followed_and_does_not_leak(self):
        examples = read_examples(DATA / "aerial_ste_marguerite")
        windows = cut_windows(examples, 256, zoom=0.25)
        split = split_windows(windows, by=f"{DATA / 'splits.json'}:aerial_ste_marguerite")
        fixed = json.loads((DATA / "splits.json").read_text())["aerial_ste_marguerite"]
        assert split.to_dict() == {part: sorted(names) for part, names in fixed.items()}
        sample = Crops(split.train)[0]
        assert sample.pixels.shape == (3, 256, 256)
        assert set(np.unique(sample.label)) <= {LAND, WATER, IGNORE}
