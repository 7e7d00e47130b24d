"""Embeddings kept in a store: asked again, nothing is encoded, and the answer is the same."""

import os
import warnings
from functools import partial

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from click.testing import CliRunner
from test_resume import Counting

import geosam
import geosam.pipeline
from geosam.cli.app import app
from geosam.errors import OptionError, OutputError
from geosam.testing import FakeModel, write_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene"), shape=(256, 256), seed=1)[0]


def run(scene, folder, name, model, **options):
    options = {"resolution": 1, "store": folder / "store", **options}
    report = geosam.run(
        scene, folder / f"{name}.gpkg", model=model, mask=folder / f"{name}.tif", **options
    )
    return report, (folder / f"{name}.tif").read_bytes()


def test_a_second_run_encodes_nothing_and_says_the_same(scene, tmp_path):
    first, again = Counting(FakeModel()), Counting(FakeModel())
    report, mask = run(scene, tmp_path, "first", first)
    other, same = run(scene, tmp_path, "again", again)
    # One tile more than were asked for: what shape an embedding has is asked once.
    assert sum(first.encoded) == report.tiles["done"] + 1
    assert again.encoded == []
    assert mask == same
    assert report.tiles == other.tiles


def without_sight(see, *rest, segmentation):
    def refuse():
        raise AssertionError("the scene was looked at")

    return segmentation(refuse, *rest)


def test_a_second_run_reads_no_pixels_where_it_decodes(scene, tmp_path, monkeypatch):
    def refuse(seen):
        raise AssertionError("pixels were read")

    report, mask = run(scene, tmp_path, "first", FakeModel())
    monkeypatch.setattr("geosam.segmentation.Seen.pixels", property(refuse))
    # Nor is anything laid out to read them with.
    lay_out = partial(without_sight, segmentation=geosam.pipeline.segmentation)
    monkeypatch.setattr("geosam.pipeline.segmentation", lay_out)
    other, same = run(scene, tmp_path, "again", FakeModel())
    assert mask == same
    assert report.tiles == other.tiles


def test_other_prompts_encode_only_tiles_that_nobody_asked_for_before(scene, tmp_path):
    run(scene, tmp_path, "first", FakeModel())
    points = gpd.read_file(tmp_path / "first.gpkg", layer="prompts")
    points[points.label == 1].iloc[:1][["label", "geometry"]].to_file(tmp_path / "click.gpkg")
    model = Counting(FakeModel())
    report, _ = run(scene, tmp_path, "one", model, prompts=str(tmp_path / "click.gpkg"))
    assert report.tiles["done"] >= 1
    assert model.encoded == []
    everything = Counting(FakeModel())
    report, _ = run(scene, tmp_path, "all", everything, prompts="none")
    with xr.open_zarr(tmp_path / "store") as store:
        assert int(store.encoded.sum()) == report.tiles["done"]
    assert 0 < sum(everything.encoded) < report.tiles["done"]


def test_plain_xarray_reads_float16_features_of_a_tile_at_its_place(scene, tmp_path):
    run(scene, tmp_path, "a", FakeModel())
    rows = gpd.read_file(tmp_path / "a.gpkg", layer="tiles")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = xr.open_zarr(tmp_path / "store")
    with store:
        assert store.brightness.dtype == np.float16
        assert store.brightness.chunks[:2] == tuple((1,) * n for n in store.encoded.shape)
        for tile in rows[rows.status == "done"].itertuples():
            row, col = map(int, tile.tile.split("_"))
            here = store.sel(tile_row=row, tile_col=col)
            assert int(here.encoded) == 1
            assert not here.brightness.isnull().any()
            inside = shapely.box(*tile.geometry.bounds).buffer(64)
            assert inside.contains(shapely.Point(float(here.x), float(here.y)))
        parts = {"model_sha256", "stretch", "tile_grid", "scene_fingerprint", "geosam_version"}
        assert parts <= set(store.attrs)


def test_what_encode_filled_a_run_needs_not_encode(scene, tmp_path, monkeypatch):
    filling = Counting(FakeModel())
    monkeypatch.setattr("geosam.commands.load", lambda options: filling)
    words = ["encode", str(scene), "--store", str(tmp_path / "store"), "--resolution", "1", "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    model = Counting(FakeModel())
    report, _ = run(scene, tmp_path, "a", model)
    assert model.encoded == []
    assert sum(filling.encoded) == report.tiles["done"] + 1
    again = CliRunner().invoke(app, [*words, "--json"])
    assert '"encoded": 0' in again.stdout
    assert not (tmp_path / "store.partial").exists()


def test_a_part_of_the_scene_shares_the_store_of_the_whole(scene, tmp_path):
    run(scene, tmp_path, "whole", FakeModel())
    bounds = gpd.read_file(tmp_path / "whole.gpkg", layer="outlines").total_bounds
    area = gpd.GeoSeries([shapely.box(*bounds)], crs="EPSG:32633")
    area.to_file(tmp_path / "aoi.gpkg")
    model = Counting(FakeModel())
    run(scene, tmp_path, "part", model, aoi=tmp_path / "aoi.gpkg")
    assert model.encoded == []


@pytest.mark.parametrize(
    ("options", "model", "part"),
    [
        ({}, FakeModel(signature="1" * 64), "the model's checkpoint differs"),
        ({"stretch": "percentile:5,95"}, FakeModel(), "the radiometric stretch differs"),
        ({"overlap": 20}, FakeModel(), "the tile grid differs \\(overlap 16, and now 20\\)"),
    ],
)
def test_a_store_of_something_else_is_refused_and_the_part_named(
    scene, tmp_path, options, model, part
):
    run(scene, tmp_path, "a", FakeModel())
    with pytest.raises(OptionError, match=part):
        run(scene, tmp_path, "b", model, **options)
    assert not (tmp_path / "b.gpkg.partial").exists()


def test_a_store_of_another_scene_is_refused(scene, tmp_path):
    run(scene, tmp_path, "a", FakeModel())
    (tmp_path / "other").mkdir()
    other = write_scene(tmp_path / "other", shape=(256, 256), seed=2)[0]
    with pytest.raises(OptionError, match="differs"):
        run(other, tmp_path, "b", FakeModel(), stretch="0,1")


def test_a_store_that_was_cut_short_is_named(scene, tmp_path):
    run(scene, tmp_path, "a", FakeModel())
    chunks = [p for p in (tmp_path / "store" / "brightness").rglob("*") if p.is_file()]
    chunk = next(p for p in chunks if p.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:-10])
    with pytest.raises(OutputError, match=r"store is damaged at tile .*Delete the folder"):
        run(scene, tmp_path, "b", FakeModel())
    chunk.unlink()
    with pytest.raises(OutputError, match="a feature map is missing"):
        run(scene, tmp_path, "c", FakeModel())
    told = [p for p in (tmp_path / "store" / "encoded" / "c").rglob("*") if p.is_file()]
    told[0].write_bytes(told[0].read_bytes()[:3])
    with pytest.raises(OutputError, match=r"store is damaged at tile .*Delete the folder"):
        run(scene, tmp_path, "d", FakeModel())


def test_a_store_without_one_of_its_maps_is_no_store(scene, tmp_path):
    run(scene, tmp_path, "a", FakeModel())
    about = tmp_path / "store" / "zarr.json"
    about.write_text(about.read_text().replace('"feature_maps": [', '"feature_maps": ["lost",'))
    with pytest.raises(OutputError, match="is no embedding store"):
        run(scene, tmp_path, "b", FakeModel())
    assert not (tmp_path / "b.gpkg.partial").exists()


def test_a_store_that_may_not_be_written_is_read_and_said_when_it_lacks_something(
    scene, tmp_path, monkeypatch
):
    run(scene, tmp_path, "a", FakeModel())

    def refuse(array, place, values):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zarr.Array.__setitem__", refuse)
    run(scene, tmp_path, "b", FakeModel())  # all it asks for is there
    with pytest.raises(OutputError, match=r"store cannot be written .*Permission denied"):
        run(scene, tmp_path, "c", FakeModel(), prompts="none")


def test_a_folder_that_is_no_store_is_left_alone(scene, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "letter.txt").write_text("precious")
    with pytest.raises(OutputError, match="is no embedding store"):
        run(scene, tmp_path, "a", FakeModel())
    assert os.listdir(tmp_path / "store") == ["letter.txt"]
    with pytest.raises(OutputError, match="does not exist"):
        run(scene, tmp_path, "a", FakeModel(), store=tmp_path / "no" / "store")


@pytest.mark.slow
def test_river_tiny_from_a_store_says_the_same(scene, tmp_path):
    tiny = geosam.load_model()
    first, again = Counting(tiny), Counting(tiny)
    _, mask = run(scene, tmp_path, "first", first)
    _, same = run(scene, tmp_path, "again", again)
    run(scene, tmp_path, "plain", tiny, store=None)
    assert again.encoded == []
    assert mask == same
    a, b = (rasterio.open(tmp_path / f"{name}.tif").read(1) == 1 for name in ("first", "plain"))
    assert (a & b).sum() / (a | b).sum() > 0.99  # half precision costs next to nothing
