"""Experiments: the cells of a grid, what their table says, and what a cut leaves."""

import csv
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from test_finetune import river
from test_models import scramble, tiny_sam2

import geosam.training.experiments as experiments_module
from geosam.cli.app import app
from geosam.errors import ModelError, OptionError, TrainingError
from geosam.models.checkpoint import find_checkpoint
from geosam.models.load import load_model
from geosam.models.network import NetworkModel
from geosam.scores import pixel_scores
from geosam.testing import mislabel, synthetic_scene
from geosam.training.embeddings import FreshTiles, store_tiles
from geosam.training.experiments import run_experiments
from geosam.training.finetune import train
from geosam.training.fit import fit
from geosam.training.grid import CROSS, FACTORS, ONE_BY_ONE, Factor, Grid, make_cells, read_grid
from geosam.training.parts import open_parts
from geosam.training.promptable import Promptable
from geosam.training.recipe import FitRecipe, LossRecipe, PromptRecipe, Recipe
from geosam.training.sample import Sample
from geosam.training.scores import examine

pytestmark = pytest.mark.usefixtures("undrawn_curves")
SMALL = Grid((Factor("prompts", ("points", "box")), Factor("masks", ("joint", "mean/best"))))
OPTIONS = {"epochs": 2, "lr": 1e-2, "batch_size": 2, "precision": "fp32", "device": "cpu"}
RATIOS = ("iou", "f1", "precision", "recall", "accuracy", "boundary_f1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    where = tmp_path_factory.mktemp("model")
    scramble(tiny_sam2()).save_pretrained(where)
    return str(where)


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Six tiles, of which one is to choose on and two to test on."""
    where = tmp_path_factory.mktemp("chips")
    for name in ("images", "masks"):
        (where / name).mkdir()
    for i in range(6):
        sample = river(i)
        pixels = (sample.pixels.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(where / "images" / f"r{i}.png")
        Image.fromarray(sample.label).save(where / "masks" / f"r{i}.png")
    split = {"train": ["r0", "r1", "r2"], "val": ["r3"], "test": ["r4", "r5"]}
    (where / "split.json").write_text(json.dumps(split))
    return where


@pytest.fixture
def options(model, chips):
    return {"model": model, "split": str(chips / "split.json"), **OPTIONS}


@pytest.fixture(scope="module")
def done(model, chips, tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "table"
    split = str(chips / "split.json")
    return run_experiments(chips, out, SMALL, model=model, split=split, **OPTIONS)


def row(done, weights, name):
    return next(r for r in done.rows if (r.weights, r.name) == (weights, name))


def read_csv(folder):
    with open(f"{folder}/experiments.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_one_by_one_changes_one_factor_at_a_time_from_the_base():
    cells = make_cells(Grid(), Recipe())
    base = {factor.name: factor.values[0] for factor in FACTORS}
    assert dict(cells[0].options) == base
    changes = [{k: v for k, v in c.options.items() if v != base[k]} for c in cells[1:]]
    assert changes == [{f.name: value} for f in FACTORS for value in f.values[1:]]


def test_a_cross_has_every_combination_once_and_no_box_twice():
    cells = make_cells(read_grid(CROSS), Recipe())
    expected = set()
    for values in itertools.product(*(f.values for f in FACTORS)):
        prompts, *others, loss = values
        expected.add((prompts, loss) if prompts == "box" else (prompts, *others, loss))
    assert len(cells) == len(expected)
    assert len({cell.key() for cell in cells}) == len(expected)


def test_every_factor_reaches_the_recipe_of_its_cell():
    recipe = Recipe(fit=FitRecipe(epochs=9))
    by_name = {cell.name: cell.recipe for cell in make_cells(Grid(), recipe)}
    base = by_name["base"]
    assert base.prompts == PromptRecipe("points", 3, 0, True)
    assert base.fit.epochs == 9
    assert by_name["prompts box"].prompts.kind == "box"
    assert by_name["points 10"].prompts.n_pos == 10
    assert by_name["negatives 10"].prompts.n_neg == 10
    assert by_name["erode no"].prompts.erode is False
    assert by_name["masks best"].loss == replace(base.loss, masks="best", validation_masks="best")
    assert by_name["loss focal"].loss.losses[0] == "focal"
    assert set(by_name["loss focal"].loss.losses) == {*base.loss.losses, "focal"}


def test_training_and_validation_may_have_masks_of_their_own():
    cell = make_cells(SMALL, Recipe())[-1]
    assert (cell.recipe.loss.masks, cell.recipe.loss.validation_masks) == ("mean", "best")


def test_a_grid_is_read_from_a_file(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('cross = true\n[factors]\nlr = [1e-3, 1e-4]\nprompts = ["box"]\n')
    grid = read_grid(str(path))
    assert grid == Grid((Factor("lr", (1e-3, 1e-4)), Factor("prompts", ("box",))), True)
    assert [c.recipe.fit.lr for c in make_cells(grid, Recipe())] == [1e-3, 1e-4]
    assert not read_grid(ONE_BY_ONE).crossed


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[factors]\nepoch = [1]", "epoch cannot be a factor. Did you mean epochs?"),
        ("[factors]\nmodel = ['a']", "model cannot be a factor"),
        ("[factors]\ncache = ['off']", "cache cannot be a factor"),
        ("[factors]\nlr = 1e-3", "lr = 0.001 must be a list"),
        ("[factors]\nlr = []", "must be a list"),
        ("[factor]\nlr = [1e-3]", "factor is unknown"),
        ("cross = 1\n[factors]\nlr = [1e-3]", "must hold a table [factors]"),
        ("lr", "cannot be read as a TOML file"),
    ],
)
def test_a_wrong_grid_is_one_sentence(tmp_path, text, named):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(OptionError, match=r"\A[^\n]*\Z") as caught:
        read_grid(str(path))
    assert named in str(caught.value)


def test_a_wrong_value_of_a_factor_is_refused():
    with pytest.raises(OptionError, match=r"prompts\.kind is 'word'"):
        make_cells(Grid((Factor("prompts", ("points", "word")),)), Recipe())


def test_the_table_has_a_row_for_each_network_before_and_after(done):
    assert [(r.weights, r.name) for r in done.rows] == [
        ("all water", ""),
        ("zero-shot", "base"),
        ("zero-shot", "prompts box"),
        ("zero-shot", "masks mean/best"),
        ("tuned", "base"),
        ("tuned", "prompts box"),
        ("tuned", "masks mean/best"),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_figures_before_are_those_that_validation_gives_for_the_test_part(
    done, options, chips, number
):
    cell = make_cells(SMALL, Recipe())[number]
    network = load_model(options["model"], device="cpu", precision="fp32")
    parts = open_parts(replace(Recipe().data, path=(str(chips),), by=options["split"]), 64, 42)
    tiles = FreshTiles(network, parts.test)
    made = Promptable(network, tiles, tiles, cell.recipe, None)
    check(row(done, "zero-shot", cell.name).figures, made)


def check(figures, made):
    expected = made.validate()
    assert figures["wet"]["iou"]["median"] == pytest.approx(expected["iou_median"])
    assert figures["wet"]["iou"]["mean"] == pytest.approx(expected["iou_mean"])
    for name in ("iou", "f1", "precision", "recall"):
        assert figures["pooled"][name] == pytest.approx(expected[name])
    each = [pixel_scores(a.water, a.label == 1, a.label == 255) for a in made.answers()]
    for name in ("f1", "accuracy"):
        values = np.array([getattr(s, name) for s in each])
        spread = figures["wet"][name]
        assert spread["lower_quartile"] == pytest.approx(np.quantile(values, 0.25))
        assert spread["upper_quartile"] == pytest.approx(np.quantile(values, 0.75))


def test_figures_after_are_those_of_the_same_training_alone(done, options, chips, tmp_path):
    for cell in make_cells(SMALL, Recipe())[:2]:
        recipe = replace(
            cell.recipe,
            data=replace(cell.recipe.data, path=(str(chips),)),
        )
        device = options["device"]
        rest = {k: v for k, v in options.items() if k != "device"}
        alone = train(recipe, tmp_path / cell.key(), device=device, **rest)
        expected = alone.to_dict()["test"]["after"]
        found = row(done, "tuned", cell.name)
        assert found.figures == expected
        assert found.record["best_epoch"] == alone.best_epoch
        assert found.figures != row(done, "zero-shot", cell.name).figures


def test_the_csv_has_every_figure_and_the_markdown_a_line_a_row(done):
    table = read_csv(done.output)
    assert [line["name"] for line in table] == [r.name for r in done.rows]
    for line, r in zip(table, done.rows, strict=True):
        for name in RATIOS:
            assert float(line[f"wet_{name}_mean"]) == r.figures["wet"][name]["mean"]
            assert float(line[f"pooled_{name}"]) == r.figures["pooled"][name]
    text = Path(done.output, "experiments.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(done.rows)
    assert len({line.count("|") for line in lines}) == 1
    for line, r in zip(lines[2:], done.rows, strict=True):
        assert f"**{r.median('iou'):.3f}**" in line
    assert "| zero-shot | box |  | " in text
    with Image.open(f"{done.output}/experiments.png") as picture:
        assert picture.size[0] > 500


def test_the_first_row_is_what_nothing_but_water_would_get(done):
    labels = [river(i).label for i in (4, 5)]
    shares = [(label == 1).sum() / (label != 255).sum() for label in labels]
    found = done.rows[0].figures
    assert found["wet"]["iou"]["mean"] == pytest.approx(np.mean(shares))
    assert found["wet"]["recall"]["median"] == 1
    assert found["pooled"]["f1"] == pytest.approx(2 * np.mean(shares) / (1 + np.mean(shares)))


def test_tiles_are_embedded_once_for_all_cells(options, chips, tmp_path, monkeypatch):
    seen = []
    embed = NetworkModel.embed
    monkeypatch.setattr(
        NetworkModel,
        "embed",
        lambda model, pixels: seen.append(len(pixels)) or embed(model, pixels),
    )
    run_experiments(chips, tmp_path / "t", SMALL, **options | {"epochs": 1})
    assert sum(seen) == 6 + 3  # each tile, and the first of each part to see the shapes


def test_cells_that_turn_their_tiles_are_trained_beside_those_that_do_not(options, chips, tmp_path):
    grid = Grid((Factor("flip", (False, True)),))
    made = run_experiments(chips, tmp_path / "t", grid, **options | {"epochs": 1})
    losses = [r.record["validation"]["loss"] for r in made.rows if r.weights == "tuned"]
    assert losses[0] != losses[1]


def test_a_cell_that_is_finished_is_not_run_again(done, options, chips, tmp_path, monkeypatch):
    names = []

    def cut(trainee, plan, folder, **more):
        names.append(folder.name.rpartition("-")[0])
        if len(names) == 2:
            raise KeyboardInterrupt
        return fit(trainee, plan, folder, **more)

    monkeypatch.setattr(experiments_module, "fit", cut)
    with pytest.raises(KeyboardInterrupt, match="--resume goes on"):
        run_experiments(chips, tmp_path / "t", SMALL, **options)
    assert not (tmp_path / "t").exists()
    made = run_experiments(chips, tmp_path / "t", SMALL, resume=True, **options)
    assert names == ["base", "prompts-box", "prompts-box", "masks-mean-best"]
    assert [r.figures for r in made.rows] == [r.figures for r in done.rows]
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
    assert not list((tmp_path / "t").rglob("*.safetensors"))


def test_other_weights_than_before_are_trained_anew(options, chips, tmp_path):
    cell = make_cells(SMALL, Recipe())[0]
    assert cell.key("a") != cell.key("b")
    where = tmp_path / "model"
    shutil.copytree(options["model"], where)

    def change(trainee, plan, folder, **more):
        network = tiny_sam2()
        network.mask_decoder.iou_token.weight.data += 1
        network.save_pretrained(where)
        return fit(trainee, plan, folder, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(experiments_module, "fit", change)
        with pytest.raises(ModelError, match="changed while the experiment ran"):
            run_experiments(chips, tmp_path / "t", SMALL, **options | {"model": str(where)})


def test_a_cell_whose_loss_is_not_finite_says_so_and_the_others_go_on(
    options, chips, tmp_path, monkeypatch
):
    def fail(trainee, plan, folder, **more):
        if "box" in folder.name:
            raise TrainingError("The loss became nan at step 3.")
        return fit(trainee, plan, folder, **more)

    monkeypatch.setattr(experiments_module, "fit", fail)
    made = run_experiments(chips, tmp_path / "t", SMALL, **options)
    assert row(made, "tuned", "prompts box").figures is None
    assert row(made, "tuned", "masks mean/best").figures is not None
    assert "The loss became nan at step 3." in (tmp_path / "t" / "experiments.md").read_text()


def test_the_command_shows_the_rows(options, chips, tmp_path):
    (tmp_path / "grid.toml").write_text('[factors]\nprompts = ["box", "points"]\n')
    command = ["train", str(chips), "-o", str(tmp_path / "t"), "--quiet"]
    command += ["--experiments", str(tmp_path / "grid.toml")]
    for name, value in (options | {"epochs": 1}).items():
        command += ["--" + name.replace("_", "-"), str(value)]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [r["name"] for r in facts["rows"]] == ["", *["base", "prompts points"] * 2]
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    shown = CliRunner().invoke(app, [*command, "--overwrite"])
    assert f"{facts['rows'][2]['figures']['wet']['iou']['median']:.3f}" in shown.stdout


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"split": "auto", "test": 0.0}, "the data has none"),
        ({"part": "autosam"}, "takes none"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_leaves_nothing(
    options, chips, tmp_path, change, named
):
    with pytest.raises(OptionError, match=named):
        run_experiments(chips, tmp_path / "t", SMALL, **options | change)
    assert not list(tmp_path.iterdir())


def rivers(seeds, size, spoil=False):
    """Tiles of a size along synthetic rivers a sixth as wide, with clean or spoilt labels."""
    return [tile for seed in seeds for tile in along_a_river(seed, size, spoil)]


def along_a_river(seed, size, spoil):
    shape = (4 * size, 4 * size)
    made = synthetic_scene(shape, seed=seed, nir=False, nodata_corner=0, dtype="uint8")
    truth = np.asarray(made.truth.values, np.uint8)
    raw = np.asarray(made.scene.values, np.float32)
    low, high = np.percentile(raw, (0.2, 99.8), axis=(1, 2)).astype(np.float32)[..., None, None]
    pixels = ((raw - low) / (high - low)).clip(0, 1)
    for number, (row, col) in enumerate(itertools.product(range(0, 4 * size, size), repeat=2)):
        place = slice(row, row + size), slice(col, col + size)
        label = truth[place]
        if (label == 1).mean() > 0.05:
            spoilt = mislabel(label, seed=100 * seed + number) if spoil else label
            yield Sample(pixels[:, place[0], place[1]], spoilt, 1.0)


def tuned(folder, recipe, train_part, test_part):
    """Tune river-tiny, and return what it makes of the test part."""
    model = load_model("river-tiny", device="cpu", precision="fp32")
    tiles = store_tiles(model, train_part(model.size), folder / "a")
    test = store_tiles(model, test_part(model.size), folder / "b")
    made = Promptable(model, tiles, test, recipe, find_checkpoint("river-tiny"))
    (folder / "out").mkdir()
    fit(made, recipe.fit, folder / "out")
    return examine(made.answers())


@pytest.mark.slow
def test_focal_loss_predicts_less_water_than_dice(tmp_path):
    plan = FitRecipe(epochs=15, batch=4, lr=1e-3, patience=0, precision="fp32")
    shares = []
    for loss in ("focal", "dicece"):
        recipe = Recipe(prompts=PromptRecipe("points"), loss=LossRecipe((loss,)), fit=plan)
        (tmp_path / loss).mkdir()
        found = tuned(
            tmp_path / loss,
            recipe,
            lambda size: rivers(range(2), size),
            lambda size: rivers([20], size),
        )
        shares.append(found.pooled.water_share_pred)
    assert shares[0] < shares[1]


@pytest.mark.slow
def test_training_with_corrections_pays_off_at_the_third_click(tmp_path):
    plan = FitRecipe(epochs=15, batch=4, lr=1e-3, patience=0, precision="fp32")
    one, three = PromptRecipe("points", n_pos=1), PromptRecipe("points", n_pos=1, rounds=2)
    found = []
    for prompts, name in ((one, "one"), (three, "three")):
        folder = tmp_path / name
        folder.mkdir()
        tuned(
            folder,
            Recipe(prompts=prompts, fit=plan),
            lambda size: rivers(range(4), size),
            lambda size: rivers([20], size),
        )
        learnt = load_model(str(folder / "out/last"), device="cpu", precision="fp32")
        test = store_tiles(learnt, rivers([20, 21], learnt.size), folder / "c")
        asked = Promptable(learnt, test, test, Recipe(prompts=three), folder / "out/last")
        found.append(examine(asked.answers()).wet["iou"].mean)
    assert found[1] > found[0] + 0.02


@pytest.mark.slow
def test_what_learnt_from_noisy_labels_is_better_than_they_are(tmp_path):
    plan = FitRecipe(epochs=8, batch=4, lr=1e-3, patience=0, precision="fp32")
    recipe = Recipe(prompts=PromptRecipe("mask"), fit=plan)
    found = tuned(
        tmp_path,
        recipe,
        lambda size: rivers(range(2), size, spoil=True),
        lambda size: rivers([20], size),
    )
    noisy, clean = rivers([20], 256, spoil=True), rivers([20], 256)
    labels = [
        pixel_scores(a.label == 1, b.label == 1).iou for a, b in zip(noisy, clean, strict=True)
    ]
    assert found.wet["iou"].median > np.median(labels)
    assert found.wet["iou"].mean > np.mean(labels)


def test_a_spoilt_label_lacks_water_and_ignores_what_was_ignored():
    truth = rivers([3], 128)[0].label.copy()
    truth[:9] = 255
    spoilt = [mislabel(truth, seed=1, lost=lost) for lost in (0.0, 0.4)]
    for label in spoilt:
        assert np.array_equal(label == 255, truth == 255)
    kept = [(label[truth == 1] == 1).mean() for label in spoilt]
    assert kept[1] < 0.65 < kept[0]
    assert np.array_equal(spoilt[1], mislabel(truth, seed=1, lost=0.4))
    assert not np.array_equal(spoilt[1], mislabel(truth, seed=2, lost=0.4))
    assert not mislabel(np.zeros((32, 32), np.uint8)).any()
