"""Models: the same logits as transformers called directly, and one sentence for what is no model."""

import json

import numpy as np
import pytest
import torch
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel

from geosam.errors import ModelError, OptionError
from geosam.models.device import place
from geosam.models.load import load_model
from geosam.types import ManyMaskModel, Model, PixelPrompts

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def scramble(network):
    """SAM's default initialisation gives near-constant masks; a parity test on those shows nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim >= 2:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15
    return network.eval()


def tiny_sam():
    return SamModel(
        SamConfig(
            vision_config={
                "hidden_size": 32,
                "output_channels": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 64,
                "patch_size": 16,
                "window_size": 2,
                "global_attn_indexes": [1],
                "num_pos_feats": 16,
                "mlp_ratio": 2.0,
            },
            prompt_encoder_config={
                "hidden_size": 32,
                "image_size": 64,
                "patch_size": 16,
                "mask_input_channels": 8,
            },
            mask_decoder_config={
                "hidden_size": 32,
                "mlp_dim": 64,
                "num_attention_heads": 2,
                "iou_head_hidden_dim": 32,
            },
        )
    )


def tiny_sam2():
    return Sam2Model(
        Sam2Config(
            vision_config={
                "backbone_config": {
                    "model_type": "sam2_hiera_det_model",
                    "hidden_size": 16,
                    "num_attention_heads": 1,
                    "blocks_per_stage": [1, 1, 1, 2],
                    "embed_dim_per_stage": [16, 32, 64, 128],
                    "num_attention_heads_per_stage": [1, 2, 4, 8],
                    "window_size_per_stage": [8, 4, 8, 4],
                    "global_attention_blocks": [4],
                    "image_size": [64, 64],
                    "window_positional_embedding_background_size": [7, 7],
                },
                "backbone_channel_list": [128, 64, 32, 16],
                "fpn_hidden_size": 32,
                "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            },
            prompt_encoder_config={
                "hidden_size": 32,
                "image_size": 64,
                "patch_size": 16,
                "mask_input_channels": 8,
            },
            mask_decoder_config={
                "hidden_size": 32,
                "mlp_dim": 64,
                "num_attention_heads": 2,
                "iou_head_hidden_dim": 32,
                "dynamic_multimask_via_stability": False,
            },
        )
    )


@pytest.fixture(scope="module", params=["sam", "sam2"])
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    network = scramble({"sam": tiny_sam, "sam2": tiny_sam2}[request.param]())
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD})
    )
    return folder, network


PROMPTS = {
    "one click": PixelPrompts(np.array([[[20.5, 31.5]]]), np.array([[1]])),
    "three points": PixelPrompts(
        np.array([[[20.5, 31.5], [4.0, 60.0], [50.0, 7.0]]]), np.array([[1, 0, 1]])
    ),
    "a box": PixelPrompts(
        np.empty((1, 0, 2)), np.empty((1, 0), int), boxes=np.array([[3.0, 5.0, 40.0, 60.0]])
    ),
    "points and a mask": PixelPrompts(
        np.array([[[9.0, 9.0]]]), np.array([[1]]), masks=np.tri(64, dtype=bool)[None]
    ),
    "a mask": PixelPrompts(
        np.empty((1, 0, 2)), np.empty((1, 0), int), masks=np.tri(64, dtype=bool)[None]
    ),
    "nothing": PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int)),
}


def called_directly(network, pixels, prompt):
    """What transformers gives for one tile, prepared by hand."""
    values = (pixels - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))
    inputs = {"pixel_values": torch.tensor(values, dtype=torch.float32)}
    if prompt.points.shape[1]:
        inputs["input_points"] = torch.tensor(prompt.points[:, None] - 0.5, dtype=torch.float32)
        inputs["input_labels"] = torch.tensor(prompt.labels[:, None])
    if prompt.boxes is not None:
        inputs["input_boxes"] = torch.tensor(prompt.boxes[:, None] - 0.5, dtype=torch.float32)
    if prompt.masks is not None:
        small = (
            torch.tensor(prompt.masks, dtype=torch.float32).reshape(1, 16, 4, 16, 4).mean((2, 4))
        )
        inputs["input_masks"] = torch.where(small >= 0.5, 6.0, -6.0)[:, None]
    single_click = prompt.kind == (1, False, False)
    with torch.no_grad():
        output = network(**inputs, multimask_output=single_click)
    best = int(output.iou_scores[0, 0].argmax())
    logits = torch.nn.functional.interpolate(
        output.pred_masks[:, 0], size=(64, 64), mode="bilinear"
    )[0, best]
    return logits.numpy(), float(output.iou_scores[0, 0, best])


@pytest.mark.parametrize("name", PROMPTS)
def test_logits_and_scores_are_those_of_transformers(checkpoint, name):
    folder, network = checkpoint
    pixels = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    model = load_model(str(folder), precision="fp32", device="cpu")
    logits, scores = model.decode(model.encode(pixels), [PROMPTS[name]])
    expected, score = called_directly(network, pixels, PROMPTS[name])
    assert expected.std() > 1e-3
    np.testing.assert_allclose(logits[0], expected, atol=1e-5)
    assert scores[0] == pytest.approx(score, abs=1e-5)


def test_models_keep_the_protocol(checkpoint):
    model = load_model(str(checkpoint[0]), device="cpu")
    assert isinstance(model, Model)
    assert isinstance(model, ManyMaskModel)
    assert model.size == 64
    assert len(model.signature) == 64


@pytest.mark.parametrize("name", ["one click", "a box"])
def test_every_mask_is_that_of_transformers_and_the_best_is_what_decode_gives(checkpoint, name):
    folder, _ = checkpoint
    pixels = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    model = load_model(str(folder), precision="fp32", device="cpu")
    features, prompt = model.encode(pixels), PROMPTS[name]
    logits, scores = model.decode_all(features, [prompt])
    assert logits.shape == (1, 3, 64, 64)
    assert scores.shape == (1, 3)
    values = (pixels - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))
    given = {"input_points": prompt.points} if prompt.boxes is None else {}
    given |= {} if prompt.boxes is None else {"input_boxes": prompt.boxes}
    inputs = {k: torch.tensor(v[:, None] - 0.5, dtype=torch.float32) for k, v in given.items()}
    if prompt.boxes is None:
        inputs["input_labels"] = torch.tensor(prompt.labels[:, None])
    with torch.no_grad():
        output = checkpoint[1](
            pixel_values=torch.tensor(values, dtype=torch.float32), multimask_output=True, **inputs
        )
    expected = torch.nn.functional.interpolate(
        output.pred_masks[:, 0], size=(64, 64), mode="bilinear"
    )
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(scores, output.iou_scores[:, 0].numpy(), atol=1e-5)
    if name == "one click":
        best, score = model.decode(features, [prompt])
        np.testing.assert_array_equal(best[0], logits[0, scores[0].argmax()])
        assert score[0] == scores.max()


def test_a_batch_equals_its_tiles(checkpoint):
    model = load_model(str(checkpoint[0]), precision="fp32", device="cpu")
    pixels = np.random.default_rng(2).random((3, 3, 64, 64), np.float32)
    together, _ = model.decode(model.encode(pixels), [PROMPTS["three points"]] * 3)
    for i in range(3):
        alone, _ = model.decode(model.encode(pixels[i : i + 1]), [PROMPTS["three points"]])
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)


def test_a_sam2_checkpoint_takes_other_sizes(tmp_path):
    scramble(tiny_sam2()).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), tile_size=96, device="cpu")
    logits, _ = model.decode(
        model.encode(np.zeros((1, 3, 96, 96), np.float32)), [PROMPTS["one click"]]
    )
    assert logits.shape == (1, 96, 96)
    with pytest.raises(ModelError, match="multiples of 32 px"):
        load_model(str(tmp_path), tile_size=100)


def test_a_sam_checkpoint_takes_its_own_size_only(tmp_path):
    tiny_sam().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="takes 64 px only"):
        load_model(str(tmp_path), tile_size=96)


def test_what_is_no_model_is_said_in_a_sentence(tmp_path):
    with pytest.raises(ModelError, match=r"has no config.json"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="model_type 'bert'; geosam loads sam"):
        load_model(str(tmp_path))
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(tmp_path / "config.json"))


def test_corrupt_weights_are_said_in_a_sentence(checkpoint, tmp_path):
    for path in checkpoint[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(tmp_path))


def test_a_missing_tensor_is_said_in_a_sentence(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in checkpoint[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(key for key in tensors if "mask_decoder" in key)
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="incomplete: 1 tensors missing"):
        load_model(str(tmp_path))


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(OptionError, match="torch sees no CUDA device"):
        place("cuda")
