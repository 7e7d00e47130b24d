"""AutoSAM: a network that makes the dense prompt, and a SAM that stays as it was."""

import hashlib
import json
import shutil

import numpy as np
import pyogrio
import pytest
import torch
import xarray as xr
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from test_models import scramble, tiny_sam, tiny_sam2

import geosam
from geosam.cli import app
from geosam.errors import ModelError
from geosam.models.autosam import DenseModel, auto_prompted, save_prompter
from geosam.models.checkpoint import EMBEDDED
from geosam.models.dense_prompter import DensePrompter, PrompterConfig
from geosam.models.load import load_model
from geosam.models.registry import list_models
from geosam.testing import write_scene
from geosam.training.autosam import new_prompter
from geosam.training.sample import Sample
from geosam.types import Model, PixelPrompts

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


def load(folder):
    return load_model(str(folder), device="cpu", precision="fp32")


def tiles(n, size, seed=0):
    """Discs of dark water on brighter land, and in every third tile none."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    made = []
    for i in range(n):
        row, col = rng.uniform(0.3, 0.7, 2) * size
        water = np.hypot(rows - row, cols - col) < (0.25 * size if i % 3 else 0)
        pixels = np.where(water, 0.2, 0.6) + rng.normal(0, 0.03, (3, size, size))
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
    assert isinstance(model.model, DenseModel)
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
        expected = torch.sigmoid(full[0, 0]).numpy()
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
