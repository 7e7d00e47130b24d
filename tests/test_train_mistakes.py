"""What a person gets wrong at ``geosam train``: one sentence, exit status 2, nothing written."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from geosam.cli.app import app


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with labelled images in ``chips``, where the command runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / "chips" / name).mkdir(parents=True)
    for i in range(4):
        pixels = np.random.default_rng(i).integers(60, 200, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"chips/images/{i}.png")
        write_mask(tmp_path, i, band())
    return tmp_path


def band(rows: int = 64) -> np.ndarray:
    """Return a mask with a river across it."""
    mask = np.zeros((rows, 64), np.uint8)
    mask[20:35] = 1
    return mask


def write_mask(folder, i: int, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(folder / f"chips/masks/{i}.png")


def every_mask(mask: np.ndarray):
    """Return what gives every image this mask."""
    return lambda folder: [write_mask(folder, i, mask) for i in range(4)]


def without_masks(folder) -> None:
    shutil.rmtree(folder / "chips/masks")


def without_one_mask(folder) -> None:
    (folder / "chips/masks/2.png").unlink()


def with_recipe(text: str):
    return lambda folder: (folder / "r.toml").write_text(text)


def with_output(folder) -> None:
    (folder / "out").mkdir()
    (folder / "out/thesis.txt").write_text("precious")


def with_no_model(folder) -> None:
    (folder / "model").mkdir()
    (folder / "model/readme.txt").write_text("not a model")


def with_text(folder) -> None:
    (folder / "rivers.gpkg").write_text("not a table")


def nothing(folder) -> None:
    """Change nothing."""


MISTAKES = {
    "two devices": ("chips -o out --device cuda:0,1", nothing, "one device"),
    "a path that is not there": ("chip -o out", nothing, "chip does not exist"),
    "an output in no folder": ("chips -o no/out", nothing, "Output folder no does not exist"),
    "no output": ("chips", nothing, "name the folder to make"),
    "masks of 0 and 255": ("chips -o out", every_mask(band() * 255), "--water-value 255"),
    "masks of 0 and 7": ("chips -o out", every_mask(band() * 7), "holds the value 7"),
    "masks in colours": ("chips -o out", every_mask(np.dstack([band()] * 2 + [band() * 0])), "is in colours"),
    "a mask of another size": ("chips -o out", every_mask(band(50)), "64 x 50 pixels"),
    "no water": ("chips -o out", every_mask(band() * 0), "has no water"),
    "all is ignored": ("chips -o out", every_mask(band() * 0 + 255), "windows has a label"),
    "no masks": ("chips -o out", without_masks, "chips has no folder masks"),
    "one mask is missing": ("chips -o out", without_one_mask, "--unmatched skip, or --unmatched land"),
    "half of the data": ("chips/images -o out", nothing, "is one half of labelled data"),
    "an image alone": ("chips/images/0.png -o out", nothing, "Name polygons with --labels"),
    "polygons beside a folder": ("chips -o out --labels w.gpkg", nothing, "Leave --labels out"),
    "no GeoPackage": ("rivers.gpkg -o out", with_text, "cannot be read as a vector file"),
    "no recipe": ("recipe.toml -o out", nothing, "recipe.toml does not exist"),
    "no TOML": ("r.toml -o out", with_recipe("[fit"), "cannot be read as TOML"),
    "an unknown key": ("r.toml -o out", with_recipe("[fit]\nepoch = 3"), "Did you mean epochs?"),
    "a word for a number": ("r.toml -o out", with_recipe('[fit]\nepochs = "x"'), "a whole number"),
    "no data in a recipe": ("r.toml -o out", with_recipe("[fit]\nepochs = 1"), "no data to train"),
    "an output that is there": ("chips -o out", with_output, "Use --overwrite"),
    "an output that is no training": ("chips -o out --overwrite", with_output, "is no training"),
    "nothing to resume": ("chips -o out --resume", nothing, "nothing to resume"),
    "no model": ("chips -o out --model model", with_no_model, "has no config.json"),
    "a part that is none": ("chips -o out --part head", nothing, "must be decoder"),
    "a prompt that is none": ("chips -o out --prompts boxes", nothing, "one of mixed, points, box"),
    "a loss that is none": ("chips -o out --loss foo", nothing, "must be a sum of focal"),
    "no epochs": ("chips -o out --epochs 0", nothing, "must be 1 or more"),
    "a tile that does not fit": ("chips -o out --tile-size 100", nothing, "multiples of 32"),
    "no split file": ("chips -o out --split s.json", nothing, "s.json cannot be read as JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "change", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_sentence_and_leaves_nothing(here, words, change, said):
    change(here)
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    result = CliRunner().invoke(app, ["train", *words.split(), "--quiet"])
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert ".." not in result.stderr.replace("RECIPE_OR_DATA...", "")
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_images_without_a_mask_may_be_left_out(here):
    without_one_mask(here)
    more = ["--unmatched", "skip", "--test", "0", "--write-recipe", "r.toml"]
    assert CliRunner().invoke(app, ["train", "chips", *more]).exit_code == 0
    assert 'unmatched = "skip"' in (here / "r.toml").read_text()
