"""The command line: what a user types, sees and gets."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from click.testing import CliRunner

import geosam
from geosam.cli.app import app
from geosam.errors import GeosamWarning
from geosam.options import Options
from geosam.testing import FakeModel, write_scene

COMMANDS = {
    "plan",
    "encode",
    "segment",
    "info",
    "coarse",
    "prompts",
    "vectorize",
    "evaluate",
    "models",
    "train",
    "demo",
    "rivers",
    "change",
    "everything",
    "coco",
}
MODEL = FakeModel(size=64, name="river-tiny")
ROOT = Path(__file__).parents[1]


class FailingModel(FakeModel):
    """Fails where the brightest pixels are."""

    def encode(self, pixels):
        if pixels.mean() > 0.45:
            raise ValueError("too bright")
        return super().encode(pixels)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    return write_scene(folder, shape=(256, 256), seed=1)[0]


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    """Every command that needs a model gets one without weights."""
    for user in ("runs", "commands", "batch"):
        monkeypatch.setattr(f"geosam.{user}.load", lambda options: MODEL)


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def done(*words):
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result


def read(path):
    with rasterio.open(path) as source:
        return source.read(1)


def test_the_help_page_names_every_command():
    assert set(app.commands) == COMMANDS
    page = done("--help").stdout
    assert all(f"  {name} " in page for name in COMMANDS)
    assert "130  interrupted" in page


def test_no_words_at_all_show_the_help_page():
    assert done().stdout == done("--help").stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_shows_examples(command):
    page = done(command, "--help").stdout
    assert f"Usage: geosam {command}" in page
    assert "Examples:" in page


def written_commands():
    """Every command line of the documents and of the help pages, as words."""
    texts = [path.read_text() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]
    texts += [command.epilog for command in app.commands.values()]
    lines = re.findall(r"^ *(?:\$ )?geosam ([a-z]+ .*)$", "\n".join(texts), re.MULTILINE)
    return [shlex.split(re.split(r"\s{2,}|#", line)[0]) for line in lines]


def test_every_command_line_of_the_documents_is_understood():
    lines = written_commands()
    assert {words[0] for words in lines} == COMMANDS
    for command, *words in lines:
        app.commands[command].make_context(command, words)  # raises where an option is unknown


def test_every_option_is_a_flag_of_segment_with_the_same_default():
    flags = {p.name: p for p in app.commands["segment"].params if p.name != "scenes"}
    declared = {field.name: field.default for field in dataclasses.fields(Options)}
    assert {name: flags[name].default for name in declared} == declared
    assert {flags[f.name].group for f in dataclasses.fields(Options)} == {
        "scene", "model", "prompts", "output"
    }  # fmt: skip


def test_the_version():
    assert done("--version").stdout == f"geosam {geosam.__version__}\n"


def test_python_runs_the_package_as_a_program(tmp_path):
    words = [sys.executable, "-m", "geosam", "segment", str(tmp_path / "no.tif"), "-o", "r.gpkg"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == f"Error: {tmp_path / 'no.tif'} does not exist: check the path.\n"
    assert ended.stdout == ""


def test_segment_writes_what_was_asked_and_tells_what_was_chosen(scene, tmp_path):
    names = ["rivers.gpkg", "mask.tif", "probability.tif", "rivers.png"]
    files = [tmp_path / name for name in names]
    flags = ["-o", "--mask", "--probability", "--quicklook"]
    words = [word for pair in zip(flags, files, strict=True) for word in pair]
    said = done("segment", scene, *words).stdout
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(str(path) in said for path in files)
    assert "NDWI" in said
    assert "Bands: red=1, green=2, blue=3, nir=4" in said
    layers = {name for name, _ in pyogrio.list_layers(files[0])}
    assert {"outlines", "islands", "tiles", "runs", "prompts", "prompt_masks"} <= layers


def test_json_is_one_object_and_the_same_as_from_python(scene, tmp_path):
    said = json.loads(done("segment", scene, "-o", tmp_path / "a.gpkg", "--json").stdout)
    report = geosam.run(scene, tmp_path / "b.gpkg", model=MODEL).to_dict()
    assert said.keys() == report.keys()
    for name in ("outlines", "islands", "tiles", "notes"):
        assert said[name] == json.loads(json.dumps(report[name]))


def test_the_names_of_the_flags_reach_the_run(scene, tmp_path):
    words = ["--threshold", 0.7, "--no-dense", "--boxes", "--min-area", 50, "--join-gap", 3]
    done("segment", scene, "-o", tmp_path / "a.gpkg", *words)
    row = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="runs").iloc[0]
    asked = json.loads(row.parameters)
    assert (asked["threshold"], asked["dense"], asked["boxes"]) == (0.7, False, True)
    assert (asked["min_area"], asked["join_gap"]) == (50, 3)
    assert asked["model"] == row.model == "river-tiny"


def test_a_folder_gets_one_result_a_scene(scene, tmp_path):
    other = tmp_path / "other.tif"
    other.write_bytes(scene.read_bytes())
    said = done("segment", scene, other, "-o", f"{tmp_path}/rivers/", "--json").stdout
    assert {path.name for path in (tmp_path / "rivers").iterdir()} == {"scene.gpkg", "other.gpkg"}
    first, second = json.loads(said)["runs"]
    assert first["outlines"] == second["outlines"]


def test_failed_tiles_are_said_and_make_the_exit_status_1(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.runs.load", lambda options: FailingModel())
    result = call("segment", scene, "-o", tmp_path / "a.gpkg")
    assert result.exit_code == 1
    assert "tiles failed" in result.stderr
    assert "a.gpkg" in result.stderr
    tiles = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="tiles")
    assert "ValueError: too bright" in set(tiles.error)


GPU_IS_FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which "
    "1.02 GiB is free. See documentation for Memory Management (https://pytorch.org/docs)"
)
GPU_IS_FULL_SAID = (
    "Error: Not enough memory on the GPU (CUDA out of memory. Tried to allocate 2.00 GiB). Use another "
    "--device, a smaller --batch-size, or a smaller model.\n"
)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted"),
        (MemoryError("3 GiB"), 3, "--batch-size"),
        (torch.OutOfMemoryError(GPU_IS_FULL), 3, GPU_IS_FULL_SAID),
        (ZeroDivisionError("by zero"), 3, "ZeroDivisionError: by zero"),
    ],
)
def test_what_cannot_be_mended_is_one_line_too(scene, tmp_path, monkeypatch, error, status, said):
    def load(options):
        raise error

    monkeypatch.setattr("geosam.runs.load", load)
    result = call("segment", scene, "-o", tmp_path / "a.gpkg")
    assert result.exit_code == status
    assert said in result.stderr
    assert len(result.stderr.split("\n")) <= 3
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    result = call("segment", tmp_path / "no.tif", "-o", tmp_path / "a.gpkg", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")


@pytest.fixture
def warn(monkeypatch):
    """Make the next command give two warnings of geosam and one of a library."""

    def load(options):
        warnings.warn("A frame of 0 is\ntaken for nodata.", GeosamWarning, stacklevel=1)
        warnings.warn("A frame of 0 is\ntaken for nodata.", GeosamWarning, stacklevel=1)
        warnings.warn("deprecated", FutureWarning, stacklevel=1)
        return MODEL

    monkeypatch.setattr("geosam.runs.load", load)


@pytest.mark.usefixtures("warn")
def test_own_warnings_are_one_line_and_others_are_not_shown(scene, tmp_path):
    result = done("segment", scene, "-o", tmp_path / "a.gpkg")
    assert result.stderr == "Warning: A frame of 0 is taken for nodata.\n"


@pytest.mark.usefixtures("warn")
def test_quiet_is_quiet(scene, tmp_path):
    result = done("segment", scene, "-o", tmp_path / "a.gpkg", "--quiet")
    assert result.stderr == ""
    assert "Outlines" in result.stdout


def test_info_tells_what_the_scene_is_and_what_would_be_chosen(scene):
    said = done("info", scene).stdout
    for words in ("256 rows x 256 columns, EPSG:32633", "1 m x 1 m", "nir=4", "NDWI", "nir, red"):
        assert words in said
    facts = json.loads(done("info", scene, "--json").stdout)
    assert facts["bands"] == ["red", "green", "blue", "nir"]
    assert facts["choice"]["prompts"] == "index"
    assert 0 < facts["nodata_share"] < 0.02


@pytest.mark.parametrize("command", ["coarse", "prompts"])
def test_what_a_step_writes_gives_the_same_mask_when_given_back(command, scene, tmp_path):
    written = tmp_path / {"coarse": "coarse.tif", "prompts": "prompts.gpkg"}[command]
    said = done(command, scene, "-o", written, "--boxes" if command == "prompts" else "--quiet")
    assert str(written) in said.stdout
    masks = [tmp_path / "a.tif", tmp_path / "b.tif"]
    extra = ["--boxes"] if command == "prompts" else ["--rounds", 1]
    done("segment", scene, "-o", tmp_path / "a.gpkg", "--mask", masks[0], *extra)
    words = ["--prompts", written, "--mask", masks[1], *extra]
    done("segment", scene, "-o", tmp_path / "b.gpkg", *words)
    assert np.array_equal(*map(read, masks))
    assert (read(masks[0]) == 1).any()


def test_vectorize_and_evaluate_read_what_segment_wrote(scene, tmp_path):
    mask, outlines = tmp_path / "mask.tif", tmp_path / "outlines.gpkg"
    done("segment", scene, "-o", tmp_path / "a.gpkg", "--mask", mask)
    said = done("vectorize", mask, "-o", outlines, "--simplify", 0, "--min-area", 0).stdout
    assert "islands" in said
    assert {n for n, _ in pyogrio.list_layers(outlines)} >= {"outlines", "islands", "runs"}
    scores = json.loads(done("evaluate", outlines, mask, "--tolerance", 2, "--json").stdout)
    assert scores["iou"] > 0.98
    assert "IoU" in done("evaluate", mask, mask).stdout


def test_models_lists_where_each_comes_from_and_how_to_get_it():
    said = done("models").stdout
    assert "facebook/sam-vit-base" in said
    assert "hf download" in said
    rows = json.loads(done("models", "--json").stdout)["models"]
    assert all(row["licence"] and row["source"] for row in rows if row["download_mb"])
    assert rows[0]["name"] == "river-tiny"
    assert rows[0]["fetch"] is None


def test_the_demo_compares_both_runs_with_the_truth(tmp_path):
    said = done("demo", "-o", tmp_path / "demo", "--size", 256).stdout
    assert said.count("with the truth") == 2
    for name in ("with-nir", "rgb-only"):
        assert {path.name for path in (tmp_path / "demo" / name).iterdir()} == {
            "scene.tif", "truth.tif", "rivers.gpkg", "mask.tif", "probability.tif", "rivers.png"
        }  # fmt: skip
