"""AutoSAM: a network that makes the dense prompt, and a SAM that stays as it was."""

import hashlib
import json
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from PIL import Image
from test_models import scramble, tiny_sam, tiny_sam2

import geosam
from geosam.cli.app import app
from geosam.errors import GeosamError, ModelError, OptionError
from geosam.models.autosam import auto_prompted, save_prompter
from geosam.models.checkpoint import EMBEDDED
from geosam.models.dense_prompter import DensePrompter, PrompterConfig
from geosam.models.load import load_model
from geosam.models.network import DenseNetwork
from geosam.models.registry import list_models
from geosam.probability import TEMPERATURE
from geosam.results import open_result
from geosam.testing import write_scene
from geosam.training.autosam import AutoSam, PromptedTiles, new_prompter, start_prompter
from geosam.training.embeddings import store_tiles
from geosam.training.fit import fit
from geosam.training.freeze import parse_part
from geosam.training.recipe import FitRecipe, parse_recipe
from geosam.training.sample import Sample
from geosam.training.settings import make_recipe
from geosam.types import Model, PixelPrompts

pytestmark = pytest.mark.usefixtures("undrawn_curves")
NO_PROMPT = PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int))
CHECKPOINTS = ["sam", "sam2", "river-tiny"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind of checkpoint that a test may put things beside."""
    made = {name: tmp_path_factory.mktemp(name) for name in CHECKPOINTS}
    scramble(tiny_sam()).save_pretrained(made["sam"])
    scramble(tiny_sam2()).save_pretrained(made["sam2"])
    for path in EMBEDDED["river-tiny"].glob("*.*"):
        shutil.copy(path, made["river-tiny"])
    return made


@pytest.fixture(params=CHECKPOINTS)
def folder(request, folders, tmp_path):
    shutil.copytree(folders[request.param], tmp_path, dirs_exist_ok=True)
    return tmp_path


def load(folder, size=None):
    return load_model(str(folder), device="cpu", precision="fp32", tile_size=size)


def tiles(n, size, seed=0):
    """A red disc that is water and a blue one that is not; every third tile has no water."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    made = []
    for i in range(n):
        row, col = rng.uniform(0.2, 0.8, 2) * size
        near = np.hypot(rows - row, cols - col) < 0.22 * size
        far = np.hypot(rows - (row + size / 2) % size, cols - (col + size / 2) % size) < 0.2 * size
        water = near & (i % 3 > 0)
        pixels = np.full((3, size, size), 0.6)
        pixels[:, far] = np.array([[0.2], [0.2], [0.5]])
        pixels[:, water] = np.array([[0.5], [0.2], [0.2]])
        pixels += rng.normal(0, 0.03, pixels.shape)
        made.append(Sample(pixels.astype(np.float32), water.astype(np.uint8), 1.0))
    return made


def beside(folder, seed=0):
    """Put an untrained, shaken prompter beside a checkpoint."""
    model = load(folder)
    prompter = new_prompter(model, seed)
    with torch.no_grad():
        prompter.head.weight.normal_(generator=torch.Generator().manual_seed(seed))
    (folder / "autosam").mkdir()
    save_prompter(prompter, model, folder / "autosam")
    return prompter


# The decoder with a dense prompt of any origin.


def test_the_dense_prompt_for_nothing_gives_what_transformers_gives_without_prompts(folder):
    model = load(folder)
    pixels = np.random.default_rng(1).random((2, 3, model.size, model.size), np.float32)
    features = model.encode(pixels)
    nothing = model.network.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    logits, scores = model.decode_dense(features, nothing.expand(2, *model.dense_shape))
    values = torch.as_tensor(model.normalisation.apply(pixels))
    with torch.no_grad():
        expected = model.network(pixel_values=values, multimask_output=False)
    assert expected.pred_masks.std() > 1e-3
    torch.testing.assert_close(logits, expected.pred_masks[:, 0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(scores, expected.iou_scores[:, 0, 0], atol=1e-5, rtol=0)


def test_gradients_go_through_the_frozen_decoder_and_stay_in_nothing_of_it(folder):
    model = load(folder)
    pixels = np.random.default_rng(2).random((1, 3, model.size, model.size), np.float32)
    features = {name: values.clone() for name, values in model.encode(pixels).items()}
    dense = torch.zeros(1, *model.dense_shape, requires_grad=True)
    model.decode_dense(features, dense)[0].sum().backward()
    assert dense.grad.abs().max() > 0
    assert all(p.grad is None for p in model.network.parameters())


# The network.


@pytest.mark.parametrize(("patch", "shape"), [(8, (64, 96)), (16, (32, 64))])
def test_a_prompt_has_the_checkpoint_s_grid_and_stays_within_reach(patch, shape):
    config = PrompterConfig(5, patch, (4, 8, 8, 8, 8))
    rest, reach = torch.arange(5.0), torch.full((5,), 0.5)
    prompter = DensePrompter(config, rest, reach)
    torch.nn.init.normal_(prompter.head.weight, std=100)
    prompt = prompter(torch.rand(2, 3, *shape))
    assert prompt.shape == (2, 5, shape[0] // patch, shape[1] // patch)
    away = (prompt - rest[:, None, None]).abs()
    assert 0.49 < away.max() <= 0.5 + 1e-6


def test_an_untrained_network_leaves_the_answer_about_as_it_is_without_prompts(folder):
    model = load(folder)
    pixels = torch.rand(2, 3, model.size, model.size)
    prompt = new_prompter(model)(pixels)
    nothing = model.network.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    masks = torch.ones(1, 1, 4 * prompt.shape[2], 4 * prompt.shape[3]) * 6
    asked = model.network.prompt_encoder.mask_embed(masks)
    assert (prompt - nothing).abs().mean() < 0.3 * (asked - nothing).abs().mean()


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        DensePrompter(PrompterConfig(4, 8))(torch.zeros(1, 3, 64, 40))
    with pytest.raises(ValueError, match="multiple of 4"):
        PrompterConfig(4, 14)


# Beside its checkpoint.


def test_a_model_prompts_itself_with_what_lies_beside_it(folder):
    made = beside(folder)
    model = auto_prompted(load(folder))
    assert isinstance(model, Model)
    assert isinstance(model.model, DenseNetwork)
    assert (model.signature, model.size) == (model.model.signature, model.model.size)
    pixels = np.random.default_rng(3).random((2, 3, model.size, model.size), np.float32)
    features = model.encode(pixels)
    with torch.no_grad():
        expected = made(torch.as_tensor(pixels))
    torch.testing.assert_close(features["dense_prompt"], expected, atol=2e-3, rtol=0)
    logits, scores = model.decode(features, [NO_PROMPT] * 2)
    plain, _ = model.model.decode(model.model.encode(pixels), [NO_PROMPT] * 2)
    assert logits.shape == (2, model.size, model.size) and scores.shape == (2,)
    assert np.abs(logits - plain).max() > 0.01


def test_a_checkpoint_without_one_says_how_to_train_one(folder):
    with pytest.raises(ModelError, match=r"no dense prompt network in .*--part autosam"):
        auto_prompted(load(folder))


def test_the_network_of_another_checkpoint_is_refused(folder):
    beside(folder)
    card = json.loads((folder / "autosam" / "config.json").read_text())
    card["checkpoint_sha256"] = "ab" * 32
    (folder / "autosam" / "config.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="weights abababababab, and the weights here are"):
        auto_prompted(load(folder))


def test_a_corrupt_network_is_said_in_a_sentence(folders, tmp_path):
    shutil.copytree(folders["sam"], tmp_path, dirs_exist_ok=True)
    beside(tmp_path)
    weights = tmp_path / "autosam" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ModelError, match="cannot be loaded"):
        auto_prompted(load(tmp_path))
    (tmp_path / "autosam" / "config.json").write_text('{"architecture": "Other"}')
    with pytest.raises(ModelError, match="describes no dense prompt network"):
        auto_prompted(load(tmp_path))


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ModelError, match="takes no dense prompts"):
        auto_prompted(geosam.testing.FakeModel())


# In the main job.


def test_every_tile_with_pixels_is_decoded_with_its_own_dense_prompt_alone(folders, tmp_path):
    folder = shutil.copytree(folders["sam2"], tmp_path / "checkpoint")
    made, size = beside(folder), 64
    rng = np.random.default_rng(4)
    pixels = rng.random((3, 2 * size, 2 * size)).astype(np.float32)
    pixels[:, :size, size:] = 0.3  # nothing that any rule would take for water
    pixels[:, size:, size:] = np.nan
    # Tiles are counted from the origin of the CRS: this corner is one of theirs.
    geobox = GeoBox(pixels.shape[1:], Affine(10, 0, 640_000, 0, -10, 6_400_000), "EPSG:32633")
    coords = {"band": ["red", "green", "blue"], **xr_coords(geobox)}
    scene = xr.DataArray(pixels, coords=coords, dims=("band", *geobox.dimensions))
    where = {"device": "cpu", "precision": "fp32", "resolution": 10, "overlap": 0}
    found = geosam.segment(scene, model=str(folder), prompts="autosam", stretch="0,1", **where)
    water = found.probability.values
    model = load(folder)
    for row, col in ((0, 0), (0, size), (size, 0)):
        tile = pixels[None, :, row : row + size, col : col + size]
        with torch.no_grad():
            logits, _ = model.decode_dense(model.encode(tile), made(torch.as_tensor(tile)))
        full = torch.nn.functional.interpolate(logits[:, None], size=(size, size), mode="bilinear")
        expected = torch.sigmoid(full[0, 0] / TEMPERATURE).numpy()
        np.testing.assert_allclose(
            water[row : row + size, col : col + size], expected, atol=0.6 / 254
        )
    assert np.isnan(water[size:, size:]).all()


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene"), shape=(256, 256), seed=3)[0]


def segment_words(scene, folder, output):
    return ("segment", scene, "-o", output, "--model", folder, "--prompts", "autosam")


def test_segment_tells_which_network_prompted(folders, scene, tmp_path):
    folder = shutil.copytree(folders["river-tiny"], tmp_path / "checkpoint")
    beside(folder)
    result = call(*segment_words(scene, folder, tmp_path / "out.gpkg"), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["tiles"] == {"done": sum(report["tiles"].values())}
    digest = hashlib.sha256((folder / "autosam" / "model.safetensors").read_bytes()).hexdigest()
    told = [note for note in report["notes"] if str(folder / "autosam") in note]
    assert len(told) == 1 and digest[:12] in told[0]
    row = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="runs").iloc[0]
    assert row.prompts == "autosam"
    assert row.model_sha256 == load(folder).signature
    assert json.loads(row.parameters)["notes"][1] == told[0]
    facts = json.loads(
        call("info", scene, "--model", folder, "--prompts", "autosam", "--json").stdout
    )
    assert facts["choice"]["prompts"] == "autosam" and told[0] in facts["choice"]["notes"]


def refused(*words):
    result = call(*words)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ") and result.output.count("\n") == 1, result.output
    return result.output


def test_a_store_keeps_what_the_model_sees_and_the_network_prompts_anew(
    folders, scene, tmp_path, monkeypatch
):
    folder = shutil.copytree(folders["sam2"], tmp_path / "checkpoint")
    beside(folder)
    encode, encoded = DenseNetwork.encode, []
    monkeypatch.setattr(DenseNetwork, "encode", lambda m, p: encoded.append(len(p)) or encode(m, p))
    how = {"model": str(folder), "resolution": 1, "device": "cpu", "precision": "fp32"}

    def probability(name, **options):
        encoded.clear()
        out = tmp_path / f"{name}.tif"
        geosam.run(scene, tmp_path / f"{name}.gpkg", probability=out, **how, **options)
        return out.read_bytes(), sum(encoded)

    _, tiles = probability("bare", prompts="autosam")
    first, filling = probability("first", prompts="autosam", store=tmp_path / "store")
    assert filling - 1 == tiles > 0  # one tile says how large the maps are
    again, none = probability("again", prompts="autosam", store=tmp_path / "store")
    assert none == 0 and again == first
    _, none = probability("index", prompts="index", store=tmp_path / "store")
    assert none == 0  # other prompts share it
    before, after = (tmp_path / "bare.tif", tmp_path / "first.tif")
    values = [rasterio.open(path).read(1).astype(int) for path in (before, after)]
    assert np.ptp(values[0]) > 20 and np.abs(values[0] - values[1]).max() <= 2
    shutil.rmtree(folder / "autosam")
    beside(folder, seed=5)
    other, none = probability("other", prompts="autosam", store=tmp_path / "store")
    assert none == 0 and other != first


def test_without_a_network_nothing_starts(folders, scene, tmp_path):
    folder = shutil.copytree(folders["sam2"], tmp_path / "checkpoint")
    words = segment_words(scene, folder, tmp_path / "out.gpkg")
    assert "has no dense prompt network" in refused(*words)
    assert "has no dense prompt network" in refused(
        "info", scene, "--model", folder, "--prompts", "autosam"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_the_network_of_other_weights_starts_nothing(folders, scene, tmp_path):
    folder = shutil.copytree(folders["sam2"], tmp_path / "checkpoint")
    beside(folder)
    trained_for = load(folder).signature
    other = scramble(tiny_sam2())
    other.mask_decoder.iou_token.weight.data += 1
    other.save_pretrained(folder)
    said = refused(*segment_words(scene, folder, tmp_path / "out.gpkg"))
    assert trained_for[:12] in said and load(folder).signature[:12] in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_there_are_no_prompts_and_no_coarse_mask_to_write(folders, scene, tmp_path):
    folder = shutil.copytree(folders["sam2"], tmp_path / "checkpoint")
    beside(folder)
    words = ("--model", folder, "--prompts", "autosam", "-o")
    assert "has no points, boxes or polygons" in refused(
        "prompts", scene, *words, tmp_path / "p.gpkg"
    )
    assert "has no coarse mask" in refused("coarse", scene, *words, tmp_path / "c.tif")
    assert "needs a coarse mask" in refused(
        *segment_words(scene, folder, tmp_path / "out.gpkg"), "--rounds", 2
    )


def test_the_list_of_models_says_which_prompt_themselves(folders, tmp_path, monkeypatch):
    folder = shutil.copytree(folders["river-tiny"], tmp_path / "checkpoint")
    monkeypatch.setitem(EMBEDDED, "river-tiny", folder)
    assert not list_models()[0]["autosam"]
    beside(folder)
    assert list_models()[0]["autosam"]
    assert "AUTOSAM" in call("models").stdout


# Training.


def in_training(folder, n=12, size=None, **settings):
    model = load(folder, size)
    parts = [
        PromptedTiles(model, tiles(n, model.size, seed=0)),
        PromptedTiles(model, tiles(6, model.size, seed=1)),
    ]
    return AutoSam(model, new_prompter(model), *parts, source=folder, **settings)


def weights(network):
    return {name: values.clone() for name, values in network.state_dict().items()}


def is_same(before, after):
    return all(torch.equal(values, after[name]) for name, values in before.items())


def test_only_the_weights_of_the_prompter_change(folder, tmp_path):
    trainee = in_training(folder, n=4)
    sam, prompter = weights(trainee.model.network), weights(trainee.prompter)
    fit(trainee, FitRecipe(epochs=2, batch=2, lr=1e-3, warmup=0), made_folder(tmp_path))
    assert is_same(sam, weights(trainee.model.network))
    changed = [n for n, v in weights(trainee.prompter).items() if not torch.equal(v, prompter[n])]
    assert set(changed) == {name for name, _ in trainee.prompter.named_parameters()}


def made_folder(tmp_path):
    (tmp_path / "training").mkdir()
    return tmp_path / "training"


def test_the_loss_is_cross_entropy_and_dice_of_known_pixels(folders):
    trainee = in_training(folders["sam2"], n=3)
    trainee.training.samples[1].label[:20] = 255
    losses = trainee.losses([1, 2], epoch=0)
    for k, item in enumerate((1, 2)):
        sample = trainee.training.samples[item]
        with torch.no_grad():
            dense = trainee.prompter(torch.as_tensor(sample.pixels[None]))
            features = trainee.model.encode(sample.pixels[None])
            small, _ = trainee.model.decode_dense(features, dense)
            full = torch.nn.functional.interpolate(small[:, None], size=(64, 64), mode="bilinear")
        known = sample.label != 255
        p = 1 / (1 + np.exp(-full[0, 0].numpy().astype(float)))[known]
        y = sample.label[known].astype(float)
        entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
        dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        assert losses["ce"][k].item() == pytest.approx(entropy, rel=1e-4)
        assert losses["dice"][k].item() == pytest.approx(dice, rel=1e-4)
        assert losses["total"][k].item() == pytest.approx(entropy + dice, rel=1e-4)


def test_kept_embeddings_give_the_same_losses_as_fresh_ones(folder, tmp_path):
    fresh = in_training(folder, n=4)
    kept = store_tiles(fresh.model, fresh.training.samples, tmp_path / "embeddings")
    stored = replace(fresh.training, stored=kept)
    other = AutoSam(fresh.model, fresh.prompter, stored, fresh.validation, source=folder)
    expected = fresh.losses([0, 3], epoch=1)["total"]
    torch.testing.assert_close(other.losses([0, 3], epoch=1)["total"], expected, atol=1e-4, rtol=0)


def test_it_learns_to_find_water_without_prompts_and_nothing_on_land(folders, tmp_path):
    trainee = in_training(folders["river-tiny"], n=18, size=96)
    plan = FitRecipe(epochs=4, batch=3, lr=2e-3, warmup=2, patience=0)
    done = fit(trainee, plan, made_folder(tmp_path))
    before, after = done.rows[0], done.rows[-1]
    assert before["iou_median"] < 0.6 and before["false_water"] > 0.02
    assert after["iou_median"] > 0.8 and after["false_water"] < 0.01


def test_a_saved_training_is_the_checkpoint_with_the_network_beside_it(folders, tmp_path):
    trainee = in_training(folders["sam"], n=4)
    folder = made_folder(tmp_path)
    trainee.save(folder)
    assert load(folder).signature == load(folders["sam"]).signature
    pixels = trainee.training.samples[1].pixels[None]
    dense = auto_prompted(load(folder)).encode(pixels)["dense_prompt"]
    with torch.no_grad():
        torch.testing.assert_close(
            dense, trainee.prompter(torch.as_tensor(pixels)), atol=1e-4, rtol=0
        )


def test_a_changed_weight_of_the_checkpoint_is_not_saved(folders, tmp_path):
    trainee = in_training(folders["sam"], n=4)
    trainee.model.network.mask_decoder.iou_token.weight.data[0, 0] += 1
    with pytest.raises(GeosamError, match="1 frozen tensors changed"):
        trainee.save(made_folder(tmp_path))
    assert not list((tmp_path / "training").iterdir())


def test_from_a_recipe_the_part_has_losses_and_a_rate_of_its_own():
    recipe = make_recipe(part="autosam")
    assert recipe.loss.losses == ("ce+dice", "ce", "dice") and recipe.fit.lr == 1e-3
    assert parse_recipe(tomllib.loads('[model]\npart = "autosam"')) == replace(recipe)
    told = make_recipe(part="autosam", lr=5e-4, loss="focal")
    assert told.loss.losses == ("focal",) and told.fit.lr == 5e-4
    assert make_recipe(part="decoder").loss.losses != recipe.loss.losses


def test_weights_that_know_nothing_are_not_prompted():
    with pytest.raises(OptionError, match="Start from a checkpoint"):
        parse_part("autosam", "scratch")


def write_images(folder, samples):
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i, sample in enumerate(samples):
        pixels = (sample.pixels.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        Image.fromarray(sample.label).save(folder / "masks" / f"{i}.png")
    return folder


def test_train_and_segment_by_command(folders, scene, tmp_path):
    data = write_images(tmp_path / "data", tiles(10, 64))
    words = ("--model", folders["sam2"], "--part", "autosam", "--epochs", 2, "--zoom", 1)
    result = call("train", data, "-o", tmp_path / "out", *words, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    best = tmp_path / "out" / "best"
    assert load(best).signature == load(folders["sam2"]).signature
    result = call(*segment_words(scene, best, tmp_path / "out.gpkg"))
    assert result.exit_code == 0, result.output
    # Trained on, it starts from the network that lies there.
    model = load(best)
    again = start_prompter(model, best, seed=0)
    assert is_same(weights(auto_prompted(model).prompter), weights(again))


def share_of_water(found):
    mask = found.mask.values
    return (mask == 1).sum() / (mask != 255).sum()


def iou(found, truth):
    mask = found.mask.values
    known = (mask != 255) & (truth.values != 255)
    water, river = mask[known] == 1, truth.values[known] == 1
    return (water & river).sum() / (water | river).sum()


@pytest.mark.slow
def test_on_rivers_it_never_saw_it_is_as_good_as_the_automatic_prompts(folders, tmp_path):
    data = tmp_path / "data"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    for seed in range(100, 132):
        paths = write_scene(tmp_path, shape=(512, 512), seed=seed)
        for path, name in zip(paths, ("images", "masks"), strict=True):
            move_east(path, 1000 * (seed - 100))
            path.rename(data / name / f"{seed}.tif")
    plan = {"epochs": 16, "batch_size": 4, "patience": 0, "flip": True}
    plan |= {"test": 0.0, "split": "scene", "zoom": 1}
    model = str(folders["river-tiny"])
    best = geosam.train(data, tmp_path / "out", model=model, part="autosam", **plan).model

    scores = {"auto": [], "autosam": []}
    for seed in (300, 301, 302, 303):
        path, truth = write_scene(tmp_path, shape=(512, 512), seed=seed)
        river = open_result(truth).load()
        for prompts, found in scores.items():
            segmented = geosam.segment(
                geosam.open_scene(path), model=best, prompts=prompts, resolution=1
            )
            found.append(iou(segmented, river))
    assert np.median(scores["autosam"]) >= np.median(scores["auto"]) - 0.02, scores

    # Land alone: the part of a scene that is farthest from any water.
    drawn = geosam.open_scene(path)
    dry = truth_free_window(river.values)
    land = drawn[:, dry[0] : dry[0] + 160, dry[1] : dry[1] + 160]
    assert share_of_water(geosam.segment(land, model=best, prompts="autosam", resolution=1)) < 0.01


def move_east(path, metres):
    """Lay a scene elsewhere: synthetic ones all lie on the same ground, which a split refuses."""
    with rasterio.open(path, "r+") as target:
        target.transform = Affine.translation(metres, 0) @ target.transform


def truth_free_window(truth, size=160):
    """The first window without water, and with hardly any nodata."""
    for row in range(0, truth.shape[0] - size, 16):
        for col in range(0, truth.shape[1] - size, 16):
            part = truth[row : row + size, col : col + size]
            if not (part == 1).any() and (part == 255).mean() < 0.05:
                return row, col
    raise AssertionError("the scene has water everywhere")
