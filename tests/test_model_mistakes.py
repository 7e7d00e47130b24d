"""What is no model, or half of one, is said in one sentence that names it, and nothing of it is run."""

import json
import pickle
import shutil
import socket
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load, save_file

from geosam.cli.app import app
from geosam.errors import ModelError
from geosam.models.load import BACKENDS, load_model
from geosam.models.mask_generation import recorded_rules
from geosam.testing import write_scene
from geosam.testing.networks import random_network, save_original


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("sam")
    random_network("sam").save_pretrained(where)
    return where


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "sam.pth"
    save_original(random_network("sam"), path)
    return torch.load(path, weights_only=True)


def refused(path, *words):
    with pytest.raises(ModelError) as caught:
        load_model(str(path), device="cpu")
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "\n" not in said
    return said


# Files of the original SAM.


def written(tmp_path, content):
    torch.save(content, tmp_path / "m.pth")
    return tmp_path / "m.pth"


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"model": {"image_encoder.pos_embed": x}}])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, wrap):
    victim = tmp_path / "written"
    path = written(tmp_path, wrap(Payload(victim)))
    pickle.loads(pickle.dumps(Payload(victim)))
    assert victim.exists()  # the payload works
    victim.unlink()
    refused(path, "m.pth", "nothing of it was run", "io.open")
    path.write_bytes(pickle.dumps(Payload(victim)))  # as it stands, not in the format of torch
    refused(path, "none that torch.save wrote")
    assert not victim.exists()


def test_code_in_the_weights_of_a_folder_is_not_run_either(copy, tmp_path):
    victim = tmp_path / "written"
    (copy / "model.safetensors").unlink()
    torch.save({"a": Payload(victim)}, copy / "pytorch_model.bin")
    refused(copy, "cannot be loaded")
    assert not victim.exists()


def test_files_that_are_no_checkpoint(tmp_path):
    text = tmp_path / "notes.pth"
    text.write_text("weights: see elsewhere")
    refused(text, "notes.pth is a file, and none that torch.save wrote")
    text.write_bytes(b"")
    refused(text, "none that torch.save wrote")
    with zipfile.ZipFile(tmp_path / "z.pth", "w") as archive:
        archive.writestr("a.txt", "x")
    refused(tmp_path / "z.pth", "z.pth cannot be read")
    refused(written(tmp_path, torch.zeros(3)), "holds no state dict")
    refused(written(tmp_path, {"epoch": 3}), "holds no state dict")
    refused(written(tmp_path, {}), "holds no state dict")
    refused(written(tmp_path, {"layer.weight": torch.zeros(3)}), "first: layer.weight")


def test_other_members_of_the_family_are_called_by_their_name(tmp_path, original):
    tensor = torch.zeros(1)
    refused(written(tmp_path, {"model": {"sam_mask_decoder.x": tensor}}), "one of SAM 2.", "sam2.1")
    high = original | {"mask_decoder.hf_token.weight": tensor}
    refused(written(tmp_path, high), "one of SAM-HQ", "syscv-community/sam-hq-vit-base")
    theirs = random_network("sam").state_dict()
    refused(written(tmp_path, dict(theirs)), "names of transformers", "save_pretrained")


def test_a_cut_file_is_refused(tmp_path, original):
    path = written(tmp_path, original)
    content = path.read_bytes()
    for share in (0.3, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        refused(path, "m.pth")


@pytest.mark.parametrize(
    "name",
    [
        "image_encoder.pos_embed",
        "image_encoder.blocks.1.attn.rel_pos_h",
        "image_encoder.blocks.0.norm1.bias",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "mask_decoder.iou_prediction_head.layers.1.weight",
    ],
)
def test_a_missing_tensor_of_an_original_file_is_named(tmp_path, original, name):
    refused(written(tmp_path, {k: v for k, v in original.items() if k != name}), name)


def test_tensors_left_over_or_of_another_shape_are_named(tmp_path, original):
    more = original | {
        "mask_decoder.extra": torch.zeros(2),
        "image_encoder.neck.4.bias": torch.zeros(2),
    }
    said = refused(written(tmp_path, more), "left over: ", "mask_decoder.extra")
    assert "image_encoder.neck.4.bias" in said
    name = "prompt_encoder.no_mask_embed.weight"
    refused(written(tmp_path, original | {name: torch.zeros(1, 7)}), f"of another shape: {name}")
    rank = original | {"image_encoder.pos_embed": torch.zeros(3)}
    refused(written(tmp_path, rank), "image_encoder.pos_embed has the shape (3,)")


def test_what_a_training_saved_beside_the_weights_is_no_hindrance(tmp_path, original):
    path = written(tmp_path, {"model": original, "optimizer": {"state": {}}, "epoch": 3})
    assert load_model(str(path), device="cpu").size == 64


def test_half_precision_in_a_file_is_read_as_single(tmp_path, original):
    path = written(tmp_path, {name: tensor.half() for name, tensor in original.items()})
    model = load_model(str(path), device="cpu", precision="fp32")
    assert model.encode(np.zeros((1, 3, 64, 64), np.float32))["embedding"].dtype == torch.float32


def test_a_file_that_changes_later_changes_nothing(tmp_path, original):
    path = written(tmp_path, original)
    model = load_model(str(path), device="cpu", precision="fp32")
    token = model.network.mask_decoder.iou_token.weight.clone()
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(model.network.mask_decoder.iou_token.weight, token)


# Folders that transformers wrote.


def test_a_folder_without_its_files_is_said_in_a_sentence(copy, tmp_path):
    refused(tmp_path, "has no config.json")
    (copy / "model.safetensors").unlink()
    refused(copy, "has no weights (model.safetensors)")
    (copy / "config.json").write_text("{")
    (copy / "model.safetensors").write_bytes(b"")
    refused(copy, "cannot be read as JSON")
    (copy / "config.json").write_text("[1]")
    refused(copy, "is not a model configuration")


def test_an_architecture_that_is_not_loaded_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    for kind, words in {
        "bert": ("model_type 'bert'", "geosam loads sam, sam_hq"),
        None: ("model_type None",),
        "sam3": ("model_type 'sam3'",),
        "edgetam": ("EdgeTAM", "needs timm"),
        "edgetam_video": ("EdgeTAM", "needs timm"),
    }.items():
        (copy / "config.json").write_text(json.dumps(config | {"model_type": kind}))
        refused(copy, *words)


@pytest.mark.parametrize("architecture", ["sam", "sam_hq", "sam2", "sam3_tracker"])
def test_half_a_checkpoint_is_refused(tmp_path, architecture):
    random_network(architecture).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content, tensors = weights.read_bytes(), load(weights.read_bytes())
    for share in (0.0, 0.01, 0.5, 0.99):
        weights.write_bytes(content[: int(share * len(content))])
        refused(tmp_path, "cannot be loaded", "fetch the checkpoint anew")
    name = next(key for key in tensors if "mask_decoder" in key)
    save_file({k: v for k, v in tensors.items() if k != name}, weights, metadata={"format": "pt"})
    refused(tmp_path, "incomplete: 1 tensors missing", name.split("mask_decoder.")[1])


def test_a_missing_part_of_the_weights_is_refused(folder, tmp_path):
    random_network("sam").save_pretrained(tmp_path, max_shard_size="100KB")
    next(iter(sorted(tmp_path.glob("model-*.safetensors")))).unlink()
    refused(tmp_path, "cannot be loaded")


def test_weights_of_another_shape_are_refused(copy):
    tensors = load((copy / "model.safetensors").read_bytes())
    tensors["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    refused(copy, "1 of another shape", "iou_token")


def test_a_configuration_of_nonsense_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    for value in ("many", None, -3):
        vision = config["vision_config"] | {"hidden_size": value}
        (copy / "config.json").write_text(json.dumps(config | {"vision_config": vision}))
        refused(copy, "copy")
    (copy / "config.json").write_text(json.dumps(config | {"vision_config": 7}))
    refused(copy, "copy")


def test_preprocessor_settings_that_do_not_say_are_refused(copy):
    (copy / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    refused(copy, "no image_mean and image_std")
    (copy / "preprocessor_config.json").write_text("{")
    refused(copy, "cannot be read as JSON")


@pytest.mark.parametrize("text", ["{", "[]", '{"mask_generation": 3}'])
def test_corrupt_rules_for_everything_are_refused(copy, text):
    (copy / "preprocessor_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"preprocessor_config\.json .*Fetch the checkpoint anew"):
        recorded_rules(str(copy))


def test_a_gpu_without_room_says_nothing_of_the_checkpoint(copy, monkeypatch):
    def load_full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setitem(BACKENDS, "sam", load_full)
    with pytest.raises(torch.OutOfMemoryError):
        load_model(str(copy), device="cpu")


# The hub.


def test_a_hub_id_without_a_network_says_what_to_fetch_and_where_to_put_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = refused("facebook/sam2.1-hiera-tiny", "hf download facebook/sam2.1-hiera-tiny")
    assert "copy the folder sam2.1-hiera-tiny" in said
    assert "--model" in said


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", where)
        monkeypatch.setattr("geosam.models.hub.PATIENCE_S", 0.2)
        monkeypatch.setenv("NO_PROXY", "*")
        refused("nobody/never-there", "is not here and cannot be fetched")


def test_what_is_no_id_is_said():
    refused("../no/such/place", "neither a folder or file here nor a Hugging Face id")
    refused("typo?", "neither a folder or file here nor a Hugging Face id")


def test_the_command_line_says_it_in_one_line_with_status_2(tmp_path):
    victim = tmp_path / "written"
    scene, _ = write_scene(tmp_path, shape=(256, 256))
    bad = written(tmp_path, Payload(victim))
    for command in (["info", str(scene)], ["segment", str(scene), "-o", str(tmp_path / "o.gpkg")]):
        done = CliRunner().invoke(app, [*command, "--model", str(bad)])
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert "nothing of it was run" in done.stderr
    assert not victim.exists()
    assert not list(tmp_path.glob("o.gpkg*"))
