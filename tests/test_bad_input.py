"""What is wrong with a request is said in one line, with exit status 2, and leaves nothing behind."""

import errno
import os

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from test_models import scramble, tiny_sam2

import geosam
from geosam.cli.app import app
from geosam.errors import OptionError, OutputError
from geosam.testing import FakeModel

UTM = "EPSG:32633"


def write(path, values, crs=UTM, left=432000.0, top=5412000.0, **profile):
    count, height, width = values.shape
    settings = {"driver": "GTiff", "dtype": values.dtype, "count": count, "height": height}
    settings |= {
        "width": width,
        "crs": crs,
        "transform": Affine(10, 0, left, 0, -10, top),
        **profile,
    }
    with rasterio.open(path, "w", **settings) as target:
        target.write(values)
    return path


def pixels(bands=4, side=96):
    """A river across land: darker, and much darker in the fourth band."""
    noise = np.random.default_rng(0).uniform(0.9, 1.1, (bands, side, side))
    land, water = ([900, 900, 900, 3000][:bands], [300, 400, 300, 100][:bands])
    is_water = (np.arange(side) // (side // 6) == 2)[:, None]
    values = np.where(is_water, *(np.reshape(v, (bands, 1, 1)) for v in (water, land)))
    return (values * noise).astype("uint16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    scramble(tiny_sam2()).save_pretrained(folder)
    return folder


@pytest.fixture
def scene(tmp_path):
    return write(tmp_path / "scene.tif", pixels())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "rivers.gpkg"


def listing(folder):
    return {path: path.stat().st_size for path in folder.rglob("*")}


@pytest.fixture
def fails(tmp_path):
    """Run a command that must fail cleanly, and return its one line."""

    def run(*words):
        before = listing(tmp_path)
        result = CliRunner().invoke(app, [str(word) for word in words])
        lines = result.stderr.splitlines()
        assert result.exit_code == 2, result.output
        assert len(lines) == 1, result.output
        assert lines[0].startswith("Error: ")
        assert lines[0].endswith((".", "--help."))
        assert result.stdout == ""
        assert listing(tmp_path) == before
        return lines[0]

    return run


COMMANDS = ("segment", "info", "coarse", "prompts")


def output_of(command, out):
    return {"info": [], "coarse": ["-o", out.with_suffix(".tif")]}.get(command, ["-o", out])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_file(fails, tmp_path, out, command):
    line = fails(command, tmp_path / "nothing.tif", *output_of(command, out))
    assert "nothing.tif" in line


def test_a_missing_mask(fails, tmp_path, out):
    assert "nothing.tif" in fails("vectorize", tmp_path / "nothing.tif", "-o", out)


def test_a_missing_prediction(fails, tmp_path):
    truth = write(tmp_path / "truth.tif", pixels(1).clip(0, 1).astype("uint8"))
    assert "nothing.tif" in fails("evaluate", tmp_path / "nothing.tif", truth)


def test_a_text_file_that_is_called_tif(fails, tmp_path, out):
    (tmp_path / "text.tif").write_text("Dear reader, this is no raster.")
    assert "text.tif" in fails("segment", tmp_path / "text.tif", "-o", out)


def test_a_truncated_geotiff(fails, scene, out):
    whole = scene.read_bytes()
    scene.write_bytes(whole[: len(whole) // 2])
    assert "scene.tif" in fails("segment", scene, "-o", out)


def test_a_scene_without_crs(fails, tmp_path, out):
    scene = write(tmp_path / "nowhere.tif", pixels(), crs=None)
    assert "--crs" in fails("segment", scene, "-o", out)


def test_a_crs_that_does_not_exist(fails, scene, out):
    assert "EPSG:1" in fails("segment", scene, "-o", out, "--crs", "EPSG:1")


@pytest.mark.parametrize("command", [*COMMANDS, "plan"])
def test_a_crs_that_the_coordinates_do_not_fit(fails, scene, tmp_path, out, command):
    wrong = write(tmp_path / "wrong.tif", pixels(), crs="EPSG:4326")
    where = output_of("info" if command == "plan" else command, out)
    assert "outside the domain" in fails(command, wrong, *where)
    assert "outside the domain" in fails(command, scene, *where, "--crs", "EPSG:4326")
    assert "EPSG:4978" in fails(command, scene, *where, "--crs", "EPSG:4978")


def test_outlines_of_coordinates_that_do_not_fit(fails, tmp_path, out):
    mask = write(tmp_path / "mask.tif", pixels(1).clip(0, 1).astype("uint8"), crs="EPSG:4326")
    assert "outside the domain" in fails("vectorize", mask, "-o", out)
    assert "outside the domain" in fails("rivers", mask, "-o", out)


def test_a_scene_of_one_band(fails, tmp_path, out):
    scene = write(tmp_path / "grey.tif", pixels(1))
    assert "one band" in fails("segment", scene, "-o", out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bands", "red=1,green=2,blue=9"], "9"),
        (["--bands", "red=1,green=2,purple=3"], "purple"),
        (["--bands", "red"], "--bands"),
        (["--bands", "red=1,green=2,blue=3", "--composite", "swir1,nir,red"], "swir1"),
        (["--composite", "nir,red"], "--composite"),
    ],
)
def test_band_roles_that_do_not_exist(fails, scene, out, words, said):
    assert said in fails("segment", scene, "-o", out, *words)


@pytest.mark.parametrize(
    ("words", "said"), [(["--prompts", "index"], "near infrared"), (["--index", "ndwi"], "nir")]
)
def test_an_index_without_its_bands(fails, tmp_path, out, words, said):
    scene = write(tmp_path / "rgb.tif", pixels(3))
    assert said in fails("segment", scene, "-o", out, *words)


def test_a_band_file_beside_a_scene(fails, scene, tmp_path, out):
    band = write(tmp_path / "B11.tif", pixels(1))
    assert "Leave it out" in fails("segment", scene, "-o", out, "--bands", f"swir1={band}")


def test_no_scene_at_all(fails, out):
    assert "No scene" in fails("segment", "-o", out)


def test_a_scene_of_nodata_alone(fails, tmp_path, out):
    scene = write(tmp_path / "empty.tif", np.zeros((4, 64, 64), "uint16"), nodata=0)
    assert "nodata" in fails("segment", scene, "-o", out)


def test_a_scene_of_one_pixel(fails, tmp_path, out):
    scene = write(tmp_path / "dot.tif", pixels(side=96)[:, :1, :1])
    assert "1 x 1" in fails("segment", scene, "-o", out)


def test_several_dates_of_one_place(fails, scene, tmp_path, out):
    later = write(tmp_path / "later.tif", pixels())
    line = fails("segment", scene, later, "-o", out)
    assert "--mosaic" in line
    assert "-o DIR" in line


def test_an_output_folder_that_does_not_exist(fails, scene, tmp_path):
    assert "does not exist" in fails("segment", scene, "-o", tmp_path / "no" / "rivers.gpkg")


def test_an_output_folder_whose_parent_does_not_exist(fails, scene, tmp_path, checkpoint):
    words = ["--model", checkpoint]
    assert "does not exist" in fails("segment", scene, "-o", f"{tmp_path}/no/rivers/", *words)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_an_output_folder_that_is_read_only(fails, scene, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "not writable" in fails("segment", scene, "-o", folder / "rivers.gpkg")


def test_an_output_folder_that_must_not_be_written(fails, scene, out, monkeypatch):
    monkeypatch.setattr("geosam.workspace.os.access", lambda path, mode: mode != os.W_OK)
    assert "not writable" in fails("segment", scene, "-o", out)


@pytest.mark.parametrize("command", ["segment", "coarse", "prompts", "vectorize"])
def test_an_output_that_is_there(fails, scene, out, command):
    words = output_of(command, out)
    words[-1].write_text("precious")
    assert "--overwrite" in fails(command, scene, *words)


def test_an_output_in_a_folder_that_is_there(fails, scene, tmp_path):
    folder = tmp_path / "rivers"
    folder.mkdir()
    (folder / "scene.gpkg").write_text("precious")
    assert "--overwrite" in fails("segment", scene, "-o", folder)


def test_an_output_of_another_kind(fails, scene, tmp_path):
    assert ".gpkg" in fails("segment", scene, "-o", tmp_path / "rivers.shp")


def test_an_output_that_is_the_input(fails, scene, out):
    assert "input" in fails("segment", scene, "-o", out, "--mask", scene, "--overwrite")


def test_an_output_that_is_a_mask_or_a_raster_that_prompts(fails, scene, tmp_path, out):
    beside = write(tmp_path / "beside.tif", pixels(1))
    for words in (["--valid", beside], ["--valid", f"{beside}:1,2"], ["--prompts", f"{beside}:1"]):
        given = [*words, "--mask", beside, "--overwrite"]
        assert "is an input" in fails("segment", scene, "-o", out, *given)


@pytest.mark.parametrize(
    "words", [("--scale", 0), ("--scale", -1), ("--scale", "inf"), ("--index-threshold", "nan")]
)
def test_numbers_that_mean_nothing(fails, scene, out, words):
    assert words[0] in fails("segment", scene, "-o", out, *words)


def test_one_mask_for_several_scenes(fails, scene, tmp_path):
    folder, other = tmp_path / "rivers", write(tmp_path / "later.tif", pixels())
    words = ["segment", scene, other, "-o", f"{folder}/", "--mask", tmp_path / "m.tif"]
    assert "--mask" in fails(*words)


def test_two_scenes_of_one_name(fails, scene, tmp_path):
    (tmp_path / "other").mkdir()
    twin = write(tmp_path / "other" / "scene.tif", pixels())
    assert "scene.gpkg" in fails("segment", scene, twin, "-o", f"{tmp_path}/rivers/")


def test_a_wrong_scene_among_several_stops_before_the_first(fails, scene, tmp_path, checkpoint):
    words = ["segment", scene, tmp_path / "nothing.tif", "-o", f"{tmp_path}/rivers/"]
    assert "nothing.tif" in fails(*words, "--model", checkpoint)


def test_unfinished_work_of_an_earlier_run(fails, scene, out):
    out.with_name("rivers.gpkg.partial").mkdir()
    assert "rivers.gpkg.partial" in fails("segment", scene, "-o", out)


def point_file(path, x, y, crs):
    table = gpd.GeoDataFrame({"label": [1]}, geometry=[shapely.Point(x, y)], crs=crs)
    table.to_file(path, engine="pyogrio")
    return path


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_prompts_without_a_crs(fails, scene, tmp_path, out, checkpoint):
    points = point_file(tmp_path / "points.gpkg", 432100, 5411900, None)
    words = ["--prompts", points, "--model", checkpoint]
    assert "no CRS" in fails("segment", scene, "-o", out, *words)


def test_prompts_outside_the_scene(fails, scene, tmp_path, out, checkpoint):
    points = point_file(tmp_path / "points.gpkg", 0, 0, "EPSG:4326")
    words = ["--prompts", points, "--model", checkpoint]
    assert "outside the scene" in fails("segment", scene, "-o", out, *words)


@pytest.mark.parametrize(
    ("places", "labels", "said"),
    [
        ([(432050, 5411950), (432050, 5411950)], [1, 0], "label 1 and one with label 0"),
        ([(432050, 5411950)], [0], "nothing but background"),
        ([], [], "no rows"),
        ([(float("nan"), 5411950)], [1], "no coordinates"),
    ],
)
def test_prompts_that_cannot_be_answered(
    fails, scene, tmp_path, out, checkpoint, places, labels, said
):
    points = tmp_path / "points.gpkg"
    table = gpd.GeoDataFrame(
        {"label": labels}, geometry=[shapely.Point(p) for p in places], crs="EPSG:32633"
    )
    table.to_file(points, engine="pyogrio", geometry_type="Point")
    words = ["--prompts", points, "--model", checkpoint]
    assert said in fails("segment", scene, "-o", out, *words)


def test_a_box_without_an_area(fails, scene, tmp_path, out, checkpoint):
    flat = shapely.Polygon([(432050, 5411950), (432060, 5411950), (432060, 5411950)])
    gpd.GeoDataFrame(geometry=[flat], crs="EPSG:32633").to_file(tmp_path / "box.gpkg")
    words = ["--prompts", tmp_path / "box.gpkg", "--model", checkpoint]
    assert "no area" in fails("segment", scene, "-o", out, *words)


def test_a_phrase_that_nobody_knows_and_text_without_its_source(fails, scene, out, checkpoint):
    words = ["--prompts", "text", "--text", "unicorn", "--model", checkpoint]
    assert "Known are water" in fails("segment", scene, "-o", out, *words)
    assert "belong together" in fails("segment", scene, "-o", out, "--text", "water")


def test_prompts_that_are_no_vectors(fails, scene, tmp_path, out, checkpoint):
    (tmp_path / "points.gpkg").write_text("no")
    words = ["--prompts", tmp_path / "points.gpkg", "--model", checkpoint]
    assert "points.gpkg" in fails("segment", scene, "-o", out, *words)


def test_prompts_that_are_not_there(fails, scene, out):
    assert "points.gpkg" in fails("segment", scene, "-o", out, "--prompts", "points.gpkg")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--prompts", "no such file"),
        ("--model", "neither a folder or file here"),
        ("--bands", "is neither an index"),
    ],
)
def test_a_name_that_is_too_long_for_a_file(fails, scene, out, option, said):
    name = "x" * 300
    value = f"nir={name}" if option == "--bands" else name
    assert said in fails("segment", scene, "-o", out, option, value)


def test_an_area_of_interest_outside_the_scene(fails, scene, tmp_path, out):
    area = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    area.to_file(tmp_path / "area.gpkg", engine="pyogrio")
    assert "outside" in fails("segment", scene, "-o", out, "--aoi", tmp_path / "area.gpkg")


def test_an_area_of_interest_that_is_a_table_without_geometry(fails, scene, tmp_path, out):
    (tmp_path / "table.csv").write_text("name,size\nharbour,3\n")
    line = fails("segment", scene, "-o", out, "--aoi", tmp_path / "table.csv")
    assert "table.csv has no geometry" in line


@pytest.mark.parametrize("values", ["1,..", "1.2.3", "1,2-"])
def test_a_quality_mask_with_values_that_are_no_numbers(fails, scene, tmp_path, out, values):
    mask = write(tmp_path / "qa.tif", pixels(1))
    line = fails("segment", scene, "-o", out, "--valid", f"{mask}:{values}")
    assert values in line


def test_a_model_folder_that_is_not_there(fails, scene, tmp_path, out):
    assert "no/model" in fails("segment", scene, "-o", out, "--model", tmp_path / "no/model")


def test_a_model_folder_without_a_configuration(fails, scene, tmp_path, out):
    (tmp_path / "model").mkdir()
    assert "config.json" in fails("segment", scene, "-o", out, "--model", tmp_path / "model")


def test_a_model_that_is_a_file(fails, scene, out):
    assert "is a file" in fails("segment", scene, "-o", out, "--model", scene)


def test_a_model_of_another_kind(fails, scene, tmp_path, out):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    assert "bert" in fails("segment", scene, "-o", out, "--model", tmp_path / "model")


def test_a_checkpoint_whose_weights_are_corrupt(fails, scene, tmp_path, out, checkpoint):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    weights = (checkpoint / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "corrupt" in fails("segment", scene, "-o", out, "--model", broken)


def test_an_overlap_as_large_as_the_tile(fails, scene, out, checkpoint):
    line = fails("segment", scene, "-o", out, "--model", checkpoint, "--overlap", 64)
    assert "must be smaller than the tile size 64" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--index", "wetness"], "wetness"),
        (["--index-threshold", "high"], "high"),
        (["--prompts", "guess"], "guess"),
        (["--stretch", "strong"], "strong"),
        (["--prompts", "hsv", "--hsv", "blue"], "blue"),
        (["--hsv", "blue"], "blue"),
        (["--hsv", "150-260,0.1-1,0.05-0.8"], "--prompts hsv"),
        (["--frame", "paint"], "paint"),
        (["--mosaic", "middle"], "middle"),
        (["--device", "abacus"], "abacus"),
        (["--precision", "fp8"], "fp8"),
        (["--threshold", 1.5], "1.5"),
        (["--resolution", -1], "-1"),
        (["--tile-size", 0], "0"),
        (["--tile-size", "large"], "large"),
        (["--overlap", -1], "-1"),
        (["--valid", "clouds.tif"], "clouds.tif"),
        (["--watr"], "--watr"),
    ],
)
def test_options_that_have_no_such_value(fails, scene, out, words, said):
    assert said in fails("segment", scene, "-o", out, *words)


def test_a_command_that_does_not_exist(fails):
    assert "segmnt" in fails("segmnt")


def test_an_output_that_is_not_named(fails, scene):
    assert "--output" in fails("segment", scene)


def test_a_demo_in_a_folder_that_holds_something(fails, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert "--overwrite" in fails("demo", "-o", tmp_path)


def test_a_demo_that_is_too_small(fails, tmp_path):
    assert "256" in fails("demo", "-o", tmp_path / "demo", "--size", 100)


def test_an_unknown_option_in_python(scene, out):
    with pytest.raises(OptionError, match="'treshold' is not an option"):
        geosam.run(scene, out, model=FakeModel(), treshold=0.4)
    assert not out.exists()


def test_a_full_disk_leaves_the_unfinished_work_and_names_it(scene, out, monkeypatch):
    def write_nothing(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("geosam.runs.write_geopackage", write_nothing)
    with pytest.raises(OutputError, match=r"disk is full.*rivers\.gpkg\.partial") as error:
        geosam.run(scene, out, model=FakeModel())
    assert "--resume" in str(error.value)
    assert not out.exists()
    assert (out.with_name("rivers.gpkg.partial") / "mask.tif").exists()
    monkeypatch.undo()
    assert geosam.run(scene, out, model=FakeModel(), resume=True).outlines >= 1
    assert not out.with_name("rivers.gpkg.partial").exists()
