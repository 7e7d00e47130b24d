"""Fine-tuning tiny checkpoints made here: what changes, what does not, and what is left when cut."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from test_models import scramble, tiny_sam, tiny_sam2

import geosam.training.promptable as promptable_module
from geosam.cli.app import app
from geosam.clock import Clock
from geosam.errors import InputError, ModelError, OptionError, OutputError, TrainingError
from geosam.models.checkpoint import EMBEDDED
from geosam.models.load import load_model
from geosam.models.network import NetworkModel
from geosam.training.answers import answer
from geosam.training.clicks import seeded
from geosam.training.embeddings import FreshTiles, store_tiles
from geosam.training.examples import read_examples
from geosam.training.finetune import train, train_parts
from geosam.training.fit import Watch, fit
from geosam.training.freeze import check_frozen, parse_part, sign_frozen
from geosam.training.parts import Parts, open_parts
from geosam.training.promptable import Promptable
from geosam.training.prompting import draw_prompt
from geosam.training.recipe import (
    FitRecipe,
    LossRecipe,
    ModelRecipe,
    PromptRecipe,
    Recipe,
    read_recipe,
)
from geosam.training.sample import IGNORE, Sample
from geosam.training.scores import examine, figures
from geosam.training.team import Team
from geosam.types import PixelPrompts

pytestmark = pytest.mark.usefixtures("undrawn_curves")
MAKERS = {"sam": tiny_sam, "sam2": tiny_sam2}
FIT = FitRecipe(epochs=2, batch=2, lr=1e-2, precision="fp32")


def river(seed, size=64):
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    label = (abs(rows - size / 2 - 8 * np.sin(cols / 9 + seed)) < 6).astype(np.uint8)
    pixels = np.where(label, 0.2, 0.7)[None] + rng.normal(0, 0.03, (3, size, size))
    label[:, :3] = IGNORE
    return Sample(pixels.clip(0, 1).astype(np.float32), label, 1.0)


SAMPLES = [river(i) for i in range(4)]


@pytest.fixture(scope="module", params=["sam", "sam2"])
def folder(request, tmp_path_factory):
    where = tmp_path_factory.mktemp(request.param)
    scramble(MAKERS[request.param]()).save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def sam2_folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("one")
    scramble(tiny_sam2()).save_pretrained(where)
    return where


def open_model(where):
    return load_model(str(where), device="cpu", precision="fp32")


def trainee(where, recipe, tiles=None, samples=SAMPLES):
    model = open_model(where)
    tiles = tiles(model) if tiles else FreshTiles(model, samples)
    return Promptable(model, tiles, tiles, recipe, where)


def tune(where, recipe, out, **more):
    out.mkdir(exist_ok=True)
    made = trainee(where, recipe)
    return made, fit(made, recipe.fit, out, **more)


def changed(before, after):
    old, new = (load_file(where / "model.safetensors") for where in (before, after))
    assert set(old) == set(new)
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_only_the_decoder_changes_and_the_rest_is_the_same_bit_for_bit(folder, tmp_path):
    tune(folder, Recipe(fit=FIT), tmp_path / "out")
    names = changed(folder, tmp_path / "out" / "last")
    assert names
    assert all(name.startswith("mask_decoder.") for name in names)
    assert not any(".conv_s" in name for name in names)


@pytest.mark.parametrize("part", ["last-blocks:1", "lora:2", "all"])
def test_other_parts_change_what_they_say(folder, tmp_path, part):
    recipe = Recipe(model=ModelRecipe(part=part), fit=replace(FIT, epochs=1))
    out = tmp_path / "out"
    out.mkdir()
    made = trainee(folder, recipe, lambda model: FreshTiles(model, SAMPLES, learns=True))
    fit(made, recipe.fit, out)
    names = changed(folder, out / "last")
    encoder = {n for n in names if n.startswith("vision_encoder.") and ".neck." not in n}
    assert encoder
    if part == "lora:2":
        assert all(name.endswith("qkv.weight") for name in encoder)
    if part == "last-blocks:1":
        assert all(("layers.1." in name) or ("blocks.4." in name) for name in encoder)
    assert not any("positional_embedding" in name for name in names)
    answer_ = load_model(str(out / "last"), device="cpu", precision="fp32").encode(
        SAMPLES[0].pixels[None]
    )
    with torch.no_grad():
        mine = made._model.embed(SAMPLES[0].pixels[None])
    assert all(torch.allclose(answer_[name], mine[name], atol=1e-4) for name in mine)


def test_the_seed_decides_how_adapters_begin(sam2_folder):
    def down(seed):
        recipe = Recipe(model=ModelRecipe(part="lora:2"), fit=replace(FIT, seed=seed))
        free = trainee(sam2_folder, recipe)._free
        return torch.cat([p.flatten() for name, p in sorted(free.items()) if name.endswith("down")])

    first, _, again, other = down(1), torch.randn(3), down(1), down(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_saved_takes_images_of_the_size_it_was_trained_at(tmp_path):
    from transformers import Sam2Model

    from geosam.training.saving import save_network

    model = load_model("river-tiny", device="cpu", precision="fp32", tile_size=192)
    save_network(model, EMBEDDED["river-tiny"], tmp_path)
    facts = json.loads((tmp_path / "preprocessor_config.json").read_text())
    side = facts["size"]["height"]
    assert (side, facts["mask_size"]["height"]) == (192, 96)
    network = Sam2Model.from_pretrained(tmp_path)
    answer_ = network(torch.zeros(1, 3, side, side), input_points=torch.full((1, 1, 1, 2), 9.0))
    assert answer_.pred_masks.shape[-1] == facts["mask_size"]["width"]


def test_without_an_answer_there_are_no_figures():
    found = figures([], ["dicece"])
    assert all(math.isnan(found[name]) for name in ("iou", "f1", "precision", "recall"))


def test_a_frozen_tensor_that_changed_all_the_same_is_not_saved(sam2_folder, tmp_path):
    network = open_model(sam2_folder).network
    signed = sign_frozen(network, {"no_memory_embedding"})
    check_frozen(network, {"no_memory_embedding"}, signed)
    network.vision_encoder.backbone.pos_embed.data[0, 0, 0, 0] += 1e-7
    with pytest.raises(Exception, match="1 frozen tensors changed"):
        check_frozen(network, {"no_memory_embedding"}, signed)


def test_tiles_embedded_once_train_as_those_embedded_each_time(folder, tmp_path):
    rows = []
    for kept in (True, False):
        out = tmp_path / str(kept)
        out.mkdir()

        def tiles(model, kept=kept, out=out):
            return store_tiles(model, SAMPLES, out / "e") if kept else FreshTiles(model, SAMPLES)

        made = trainee(folder, Recipe(fit=FIT), tiles)
        rows.append(fit(made, FIT, out).rows)
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, abs=1e-4, nan_ok=True)
    assert rows[0][2]["loss"] != rows[0][0]["loss"]


def test_kept_embeddings_are_used_again_where_the_pixels_are_the_same(
    sam2_folder, tmp_path, monkeypatch
):
    model, calls = open_model(sam2_folder), []
    first = store_tiles(model, SAMPLES, tmp_path / "e")
    embed = NetworkModel.embed
    monkeypatch.setattr(
        NetworkModel,
        "embed",
        lambda model, pixels: calls.append(len(pixels)) or embed(model, pixels),
    )
    again = store_tiles(model, [SAMPLES[0], SAMPLES[1], river(9), SAMPLES[3]], tmp_path / "e")
    assert calls == [1, 1]  # one to see the shapes, one for the tile that is another
    assert torch.equal(first.read([1], 0).features["level0"], again.read([1], 7).features["level0"])
    with torch.no_grad():
        expected = model.embed(river(9).pixels[None])["level2"]
    assert torch.allclose(again.read([2], 0).features["level2"], expected, atol=1e-6)


def test_training_embeds_as_inference_does(folder):
    model = open_model(folder)
    theirs = model.encode(SAMPLES[0].pixels[None])
    mine = model.embed(SAMPLES[0].pixels[None])
    assert list(mine) == list(theirs)
    assert all(torch.allclose(mine[k], theirs[k], atol=1e-6) for k in mine)


def test_a_training_that_was_cut_ends_as_one_that_was_not(folder, tmp_path):
    plan = replace(FIT, epochs=3, schedule="constant")
    recipe = Recipe(fit=plan, prompts=PromptRecipe(n_neg=2, rounds=1))
    _, whole = tune(folder, recipe, tmp_path / "whole")

    def cut(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(folder, recipe, tmp_path / "cut", watch=Watch(epoch=cut))
    _, resumed = tune(folder, recipe, tmp_path / "cut", resume=True)
    assert [r["loss"] for r in resumed.rows] == [r["loss"] for r in whole.rows]
    assert not changed(tmp_path / "whole" / "last", tmp_path / "cut" / "last")
    with (tmp_path / "cut" / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


def test_a_loss_that_is_nan_stops_it_and_names_step_and_item(sam2_folder, tmp_path):
    broken = list(SAMPLES)
    broken[2] = Sample(np.full_like(SAMPLES[2].pixels, np.nan), SAMPLES[2].label, 1.0)
    recipe = Recipe(fit=replace(FIT, epochs=3))
    made = trainee(sam2_folder, recipe, samples=broken)
    made._validation = FreshTiles(made._model, SAMPLES[:1])
    order = np.random.default_rng([42, 1, 2]).permutation(4).tolist()
    step = order.index(2) // 2 + 1
    with pytest.raises(TrainingError, match=rf"nan at step {step} \(epoch 1\) on c\. ") as caught:
        fit(made, recipe.fit, tmp_path, names="abcd")
    assert str(tmp_path) in str(caught.value)
    assert not changed(sam2_folder, tmp_path / "best")
    load_model(str(tmp_path / "last"))


def test_the_first_loss_is_optimised_and_all_are_logged(sam2_folder, tmp_path):
    gradients = []
    for names in (("focal",), ("focal", "dice", "ce"), ("dice", "focal")):
        recipe = Recipe(loss=LossRecipe(losses=names, iou_weight=0.0), fit=FIT)
        made = trainee(sam2_folder, recipe)
        made.train()
        losses = made.losses([0, 1], 1)
        assert list(losses) == ["total", *names, "iou_head"]
        assert torch.equal(losses["total"], losses[names[0]])
        losses["total"].sum().backward()
        gradients.append(made.parameters()["mask_decoder.mask_tokens.weight"].grad.clone())
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])


def test_the_iou_head_learns_the_true_iou(sam2_folder):
    recipe = Recipe(prompts=PromptRecipe(kind="box", box_jitter=0), fit=FIT)
    made = trainee(sam2_folder, recipe)
    made.train()
    label = SAMPLES[0].label
    losses = made.losses([0], 1)
    prompt = draw_prompt(label, recipe.prompts, seeded(42, 1, 0))
    model = made._model
    with torch.no_grad():
        given = answer(model, model.embed(SAMPLES[0].pixels[None]), [prompt], "joint")[0]
    full = torch.nn.functional.interpolate(
        given.logits[None], size=(64, 64), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    known = label != IGNORE
    both = ((full > 0) & (label == 1) & known).sum()
    either = (((full > 0) | (label == 1)) & known).sum()
    expected = (float(given.scores[0]) - both / either) ** 2
    assert float(losses["iou_head"].detach()[0]) == pytest.approx(expected, rel=1e-4)


def test_several_kinds_of_prompt_in_one_batch_are_answered_as_each_alone(folder):
    model = open_model(folder)
    rules = [
        PromptRecipe(kind=kind, n_pos=n) for kind, n in (("points", 3), ("box", 0), ("points", 1))
    ]
    prompts = [
        draw_prompt(s.label, r, seeded(0, 0, 0)) for s, r in zip(SAMPLES, rules, strict=False)
    ]
    with torch.no_grad():
        features = model.embed(np.stack([s.pixels for s in SAMPLES[:3]]))
        together = answer(model, features, prompts, "joint")
        for i, prompt in enumerate(prompts):
            one = {name: maps[i : i + 1] for name, maps in features.items()}
            alone = answer(model, one, [prompt], "joint")[0]
            assert torch.allclose(together[i].logits, alone.logits, atol=1e-5)
    assert [len(a.logits) for a in together] == [1, 1, 3]


def test_mean_and_best_ask_with_every_point_alone(folder):
    model = open_model(folder)
    points = np.array([[[20.0, 30.0], [40.0, 28.0], [50.0, 33.0]]])
    prompt = PixelPrompts(points, np.ones((1, 3), int))
    with torch.no_grad():
        features = model.embed(SAMPLES[0].pixels[None])
        found = answer(model, features, [prompt], "mean")[0]
        embeddings = features["embedding"] if len(features) == 1 else list(features.values())
        output = model.network(
            image_embeddings=embeddings,
            input_points=torch.tensor(points[0][None, :, None] - 0.5, dtype=torch.float32),
            input_labels=torch.ones(1, 3, 1, dtype=torch.int),
            multimask_output=False,
        )
    assert torch.allclose(found.logits, output.pred_masks[0, :, 0], atol=1e-5)
    assert torch.allclose(found.scores, output.iou_scores[0, :, 0], atol=1e-5)


def test_each_epoch_starts_in_training_mode_and_validation_leaves_it(sam2_folder, tmp_path):
    modes = []
    recipe = Recipe(fit=FIT)
    made = trainee(sam2_folder, recipe)
    network, losses, validate = made._model.network, made.losses, made.validate
    made.losses = lambda items, epoch: (
        modes.append(("train", network.mask_decoder.training)) or losses(items, epoch)
    )
    made.validate = lambda: (validate(), modes.append(("validate", network.mask_decoder.training)))[
        0
    ]
    fit(made, recipe.fit, tmp_path)
    assert {mode for name, mode in modes if name == "train"} == {True}
    assert {mode for name, mode in modes if name == "validate"} == {False}
    assert not network.vision_encoder.training


def test_it_stops_when_nothing_gets_better(sam2_folder, tmp_path, monkeypatch):
    made = trainee(sam2_folder, Recipe(fit=FIT))
    losses = iter([0.5, 0.4, 0.45, 0.41, 0.3, 0.2])
    monkeypatch.setattr(made, "validate", lambda: {"loss": next(losses), "iou_median": 0.0})
    done = fit(made, replace(FIT, epochs=5, patience=2), tmp_path)
    assert (done.epoch, done.best_epoch) == (3, 1)


def test_tiles_without_water_are_left_out_and_all_dry_is_an_error(sam2_folder):
    dry = Sample(SAMPLES[0].pixels, np.zeros((64, 64), np.uint8), 1.0)
    made = trainee(sam2_folder, Recipe(fit=FIT), samples=[dry, SAMPLES[1]])
    assert made.items == [1]
    with pytest.raises(InputError, match="None of the 1 training tiles has water"):
        trainee(sam2_folder, Recipe(fit=FIT), samples=[dry])


def test_a_tile_of_another_size_is_refused(sam2_folder):
    made = trainee(sam2_folder, Recipe(fit=FIT), samples=[river(0, 96)])
    with pytest.raises(InputError, match=r"Tile 0 has pixels \(3, 96, 96\)"):
        made.losses([0], 1)


@pytest.mark.parametrize("text", ["encoder", "last-blocks", "last-blocks:0", "lora:x"])
def test_an_unknown_part_is_refused(text):
    with pytest.raises(OptionError, match="decoder, last-blocks:N"):
        parse_part(text)


def test_from_scratch_every_layer_starts_anew_and_can_learn(folder, tmp_path):
    parts = Parts(SAMPLES, SAMPLES[:2])
    recipe = Recipe(model=ModelRecipe(str(folder), start="scratch"), fit=FIT)
    from geosam.training.learner import load_learner

    model, source = load_learner(recipe, "cpu")
    done = train_parts(
        parts, model, source, recipe, tmp_path / "new", Clock(), Team(), False, False, False
    )
    names = changed(folder, tmp_path / "new" / "last")
    assert any(name.startswith("vision_encoder.") for name in names)
    assert done.after["loss"] < done.before["loss"]


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    where = tmp_path_factory.mktemp("chips")
    for name in ("images", "masks"):
        (where / name).mkdir()
    for i in range(6):
        sample = river(i)
        pixels = (sample.pixels.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(where / "images" / f"r{i}.png")
        Image.fromarray(sample.label).save(where / "masks" / f"r{i}.png")
    return where


OPTIONS = ("--test", "0", "--epochs", "1", "--device", "cpu", "--precision", "fp32", "--quiet")


def test_the_command_makes_a_model_that_loads_and_says_so_as_json(chips, sam2_folder, tmp_path):
    command = ["train", str(chips), "-o", str(tmp_path / "tuned"), "--model", str(sam2_folder)]
    result = CliRunner().invoke(app, [*command, *OPTIONS, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["epochs"] == 1
    assert facts["tiles"] == {"train": 5, "with_water": 5, "validation": 1, "test": 0}
    assert facts["test"] is None
    found = {path.name for path in (tmp_path / "tuned").iterdir()}
    assert found == {"best", "last", "metrics.csv", "curves.png", "recipe.toml", "windows.csv"}
    model = load_model(facts["model"])
    logits, _ = model.decode(
        model.encode(SAMPLES[0].pixels[None]),
        [PixelPrompts(np.array([[[30.0, 30.0]]]), np.array([[1]]))],
    )
    assert logits.shape == (1, 64, 64)
    assert not (tmp_path / "tuned.partial").exists()
    again = CliRunner().invoke(app, [*command, *OPTIONS])
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_the_command_writes_a_recipe_and_trains_nothing(chips, tmp_path):
    command = ["train", str(chips), "--write-recipe", str(tmp_path / "r.toml"), "--lr", "7e-6"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert "lr = 7e-06" in (tmp_path / "r.toml").read_text()
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]


def test_an_unknown_key_is_one_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "r.toml").write_text("[fit]\nepoch = 3\n")
    command = ["train", str(tmp_path / "r.toml"), "-o", str(tmp_path / "tuned")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "Did you mean epochs?" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]


def test_a_checkpoint_of_another_architecture_is_refused_and_leaves_nothing(chips, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="bert"):
        train(chips, tmp_path / "tuned", model=str(tmp_path / "bert"))
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_an_interruption_keeps_the_work_and_says_how_to_go_on(
    chips, sam2_folder, tmp_path, monkeypatch
):
    losses = promptable_module.Promptable.losses

    def cut(self, items, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return losses(self, items, epoch)

    monkeypatch.setattr(promptable_module.Promptable, "losses", cut)
    command = ["train", str(chips), "-o", str(tmp_path / "tuned"), "--model", str(sam2_folder)]
    command += [*OPTIONS, "--epochs", "3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 130
    assert "tuned.partial" in result.stderr
    assert "--resume" in result.stderr
    monkeypatch.undo()
    assert CliRunner().invoke(app, command).exit_code == 2
    other = CliRunner().invoke(app, [*command, "--resume", "--seed", "1"])
    assert "fit.seed was 42 and is 1" in other.stderr
    resumed = CliRunner().invoke(app, [*command, "--resume", "--json"])
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["epochs"] == 3


def told_epochs(folder):
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 2 if path.is_file() else 0


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_says_how_to_go_on_and_the_resumed_training_ends_as_one_that_was_not_cut(
    chips, sam2_folder, tmp_path
):
    command = ["train", str(chips), "--model", str(sam2_folder), *OPTIONS, "--epochs", "12"]
    cut = [sys.executable, "-m", "geosam", *command, "-o", str(tmp_path / "cut")]
    # A shell that runs this in the background has it ignore the signal, which is inherited.
    process = subprocess.Popen(
        cut,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while told_epochs(tmp_path / "cut.partial") < 1 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "cut.partial" in said
    assert "--resume" in said
    assert "Traceback" not in said
    assert 1 <= told_epochs(tmp_path / "cut.partial") < 12
    assert not (tmp_path / "cut").exists()
    for name, more in (("cut", ["--resume"]), ("whole", [])):
        result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / name), *more])
        assert result.exit_code == 0, result.stderr
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("cut", "whole")]
    assert tables[0] == tables[1]
    for kept in ("best", "last"):
        assert not changed(tmp_path / "whole" / kept, tmp_path / "cut" / kept)


def test_the_best_is_measured_on_the_test_part_tile_by_tile(chips, sam2_folder, tmp_path):
    split = {"train": ["r0", "r1"], "val": ["r2"], "test": ["r3", "r4", "r5"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    done = train(
        chips,
        tmp_path / "tuned",
        model=str(sam2_folder),
        split=str(tmp_path / "split.json"),
        prompts="box",
        epochs=2,
        lr=1e-2,
        device="cpu",
        precision="fp32",
    )
    facts = json.loads((tmp_path / "tuned" / "test.json").read_text())
    crops = open_parts(read_recipe(tmp_path / "tuned" / "recipe.toml").data, 64, 42).test
    for when, where in (("before", sam2_folder), ("after", tmp_path / "tuned" / "best")):
        model, ious = open_model(where), []
        for item, sample in enumerate(crops):
            prompt = draw_prompt(sample.label, PromptRecipe(kind="box"), seeded(0, 0, item))
            logits, _ = model.decode(model.encode(sample.pixels[None]), [prompt])
            water, known = logits[0] > 0, sample.label != IGNORE
            truth = sample.label == 1
            ious.append((water & truth).sum() / ((water | truth) & known).sum())
        images = facts[when]["images"]
        assert [row["iou"] for row in images.values()] == pytest.approx(ious, abs=1e-3)
        assert [name.split()[0] for name in images] == ["r3", "r4", "r5"]
        assert getattr(done.test, when).wet["iou"].median == pytest.approx(
            np.median(ious), abs=1e-3
        )
    assert done.to_dict()["test"]["after"]["wet"]["n"] == 3
    assert done.tiles["test"] == 3


def test_tiles_with_next_to_no_water_count_by_their_false_water(sam2_folder):
    wet, almost_dry = SAMPLES[0], SAMPLES[1].label.copy()
    almost_dry[:] = 0
    almost_dry[20:24, 20:26] = 1  # 24 of 4096 pixels
    samples = [wet, Sample(SAMPLES[1].pixels, almost_dry, 1.0)]
    made = trainee(sam2_folder, Recipe(fit=FIT), samples=samples)
    found = examine(made.answers())
    waters = [answered.water for answered in made.answers()]
    known = wet.label != IGNORE
    overlap = (waters[0] & (wet.label == 1)).sum()
    union = ((waters[0] | (wet.label == 1)) & known).sum()
    assert found.wet["iou"].mean == pytest.approx(overlap / union)
    assert found.false_water_mean == pytest.approx((waters[1] & (almost_dry == 0)).sum() / 4096)
    assert (found.n_wet, found.n_dry) == (1, 1)


def test_a_recipe_says_how_its_data_are_seen(chips, tmp_path, monkeypatch):
    data = replace(Recipe().data, path=(str(chips),))
    seen = open_parts(replace(data, stretch="0,255"), 64, 42).train[0]
    name = open_parts(data, 64, 42).names[0].split()[0]
    raw = np.asarray(Image.open(chips / "images" / f"{name}.png"), np.float32) / 255
    assert np.allclose(seen.pixels, raw.transpose(2, 0, 1), atol=1e-6)
    given = {}
    monkeypatch.setattr(
        "geosam.training.parts.read_examples",
        lambda path, kind, **more: given.update(more) or read_examples(path, kind),
    )
    open_parts(replace(data, resolution=2.5, scene="moved.tif"), 64, 42)
    assert given["options"].resolution == 2.5
    assert given["scene"] == "moved.tif"


def test_a_folder_that_is_no_training_is_never_overwritten(chips, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is no training"):
        train(chips, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.slow
def test_four_tiles_are_learnt_by_heart(tmp_path):
    model = load_model("river-tiny", device="cpu", precision="fp32")
    samples = [river(i, model.size) for i in range(4)]
    plan = FitRecipe(epochs=25, batch=2, lr=1e-3, patience=0, precision="fp32")
    recipe = Recipe(prompts=PromptRecipe(kind="points"), fit=plan)
    tiles = store_tiles(model, samples, tmp_path / "e")
    from geosam.models.checkpoint import find_checkpoint

    made = Promptable(model, tiles, tiles, recipe, find_checkpoint("river-tiny"))
    (tmp_path / "out").mkdir()
    done = fit(made, plan, tmp_path / "out")
    assert max(row["iou_median"] for row in done.rows) >= 0.95
