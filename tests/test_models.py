"""Every architecture keeps one contract: the logits are those of transformers called directly."""

import json
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import Sam3TrackerModel

from geosam.decoding import decode_boxes, decode_clicks, encode_picture
from geosam.errors import ModelError, OptionError
from geosam.models.device import place
from geosam.models.features import from_half, to_half
from geosam.models.load import load_model
from geosam.testing.networks import ARCHITECTURES, random_network, save_original, scramble
from geosam.types import ManyMaskModel, Model, PixelPrompts

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NONE = np.empty((1, 0, 2)), np.empty((1, 0), int)
LARGEST = 1e-5
"""Difference of logits and scores that is still the same answer."""

tiny_sam, tiny_sam2 = partial(random_network, "sam"), partial(random_network, "sam2")

PROMPTS = {
    "one click": PixelPrompts(np.array([[[20.5, 31.5]]]), np.array([[1]])),
    "three points": PixelPrompts(
        np.array([[[20.5, 31.5], [4.0, 50.0], [50.0, 7.0]]]), np.array([[1, 0, 1]])
    ),
    "a box": PixelPrompts(*NONE, boxes=np.array([[3.0, 5.0, 40.0, 50.0]])),
    "a click in a box": PixelPrompts(
        np.array([[[9.0, 9.0]]]), np.array([[1]]), boxes=np.array([[3.0, 5.0, 40.0, 50.0]])
    ),
    "a click and a mask": PixelPrompts(
        np.array([[[9.0, 9.0]]]), np.array([[1]]), masks=np.tri(64, dtype=bool)[None]
    ),
    "a mask": PixelPrompts(*NONE, masks=np.tri(64, dtype=bool)[None]),
    "nothing": PixelPrompts(*NONE),
}


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "original"])
def checkpoint(request, tmp_path_factory):
    """A checkpoint on disk, the same network in memory, and what its preprocessor does."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "original":
        network = random_network("sam")
        save_original(network, folder / "sam.pth")
        return folder / "sam.pth", network, IMAGENET
    network = random_network(request.param)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD})
    )
    return folder, network, (MEAN, STD)


def opened(checkpoint):
    return load_model(str(checkpoint[0]), precision="fp32", device="cpu")


def tiles(n, side, seed=1):
    return np.random.default_rng(seed).random((n, 3, side, side), np.float32)


def shrunk(mask, side):
    """Mask logits on a grid of side cells: a cell is in where half of the pixels it touches are."""
    edges = np.arange(side + 1) * len(mask) / side
    spans = [slice(int(a), int(np.ceil(b))) for a, b in pairwise(edges)]
    share = np.array([[mask[rows, cols].mean() for cols in spans] for rows in spans])
    return np.where(share >= 0.5, 6.0, -6.0)


def fit(prompt, side):
    masks = None if prompt.masks is None else prompt.masks[:, :side, :side]
    return PixelPrompts(prompt.points, prompt.labels, prompt.boxes, masks)


def called_directly(checkpoint, pixels, prompt, several):
    """What transformers gives for one tile, prepared by hand: logits (m, y, x) and scores (m,)."""
    _, network, (mean, std) = checkpoint
    side = pixels.shape[-1]
    # In single precision, as the image processors of transformers normalise.
    centre, spread = (np.reshape(np.float32(v), (1, 3, 1, 1)) for v in (mean, std))
    inputs = {"pixel_values": torch.tensor((pixels - centre) / spread)}
    if prompt.points.shape[1]:
        inputs["input_points"] = torch.tensor(prompt.points[:, None] - 0.5, dtype=torch.float32)
        inputs["input_labels"] = torch.tensor(prompt.labels[:, None])
    if prompt.boxes is not None:
        inputs["input_boxes"] = torch.tensor(prompt.boxes[:, None] - 0.5, dtype=torch.float32)
    if prompt.masks is not None:
        small = torch.tensor(shrunk(prompt.masks[0], 16), dtype=torch.float32)
        inputs["input_masks"] = small[None, None]
    with torch.no_grad():
        output = network(**inputs, multimask_output=several)
    logits = torch.nn.functional.interpolate(
        output.pred_masks[:, 0], size=(side, side), mode="bilinear"
    )
    return logits[0].numpy(), output.iou_scores[0, 0].numpy()


@pytest.mark.parametrize("name", PROMPTS)
def test_logits_and_scores_are_those_of_transformers(checkpoint, name):
    model = opened(checkpoint)
    pixels, prompt = tiles(1, model.size), fit(PROMPTS[name], model.size)
    logits, scores = model.decode(model.encode(pixels), [prompt])
    every, theirs = called_directly(checkpoint, pixels, prompt, prompt.kind == (1, False, False))
    best = theirs.argmax()
    assert every[best].std() > 1e-3
    np.testing.assert_allclose(logits[0], every[best], rtol=0, atol=LARGEST)
    np.testing.assert_allclose(scores[0], theirs[best], rtol=0, atol=LARGEST)


@pytest.mark.parametrize("name", PROMPTS)
def test_every_mask_is_that_of_transformers_and_the_best_is_what_decode_gives(checkpoint, name):
    model = opened(checkpoint)
    pixels, prompt = tiles(1, model.size), fit(PROMPTS[name], model.size)
    features = model.encode(pixels)
    logits, scores = model.decode_all(features, [prompt])
    expected, theirs = called_directly(checkpoint, pixels, prompt, several=True)
    assert logits.shape == (1, 3, model.size, model.size)
    assert scores.shape == (1, 3)
    np.testing.assert_allclose(logits[0], expected, rtol=0, atol=LARGEST)
    np.testing.assert_allclose(scores[0], theirs, rtol=0, atol=LARGEST)
    if name == "one click":
        best, score = model.decode(features, [prompt])
        np.testing.assert_array_equal(best[0], logits[0, scores[0].argmax()])
        assert score[0] == scores.max()


def test_models_keep_the_protocol(checkpoint):
    model = load_model(str(checkpoint[0]), device="cpu")
    assert isinstance(model, Model)
    assert isinstance(model, ManyMaskModel)
    assert model.size == checkpoint[1].config.prompt_encoder_config.image_size
    assert len(model.signature) == 64


def test_many_prompts_encode_a_tile_once_and_together_are_as_apart(checkpoint):
    model, encoded = opened(checkpoint), []
    first = next(
        m for m in model.network.vision_encoder.modules() if isinstance(m, torch.nn.Conv2d)
    )
    first.register_forward_hook(lambda *_: encoded.append(1))
    features = encode_picture(model, tiles(1, model.size)[0])
    points = np.random.default_rng(3).uniform(0, model.size, (5, 2))
    boxes = np.array([[2.0, 3, 20, 30], [8, 8, 40, 50], [0, 0, 9, 9]])
    for decode, given in ((decode_clicks, points), (decode_boxes, boxes)):
        together = list(decode(model, features, given, batch=3))
        apart = list(decode(model, features, given, batch=1))
        for k in (1, 2):
            whole, parts = (np.concatenate([p[k] for p in found]) for found in (together, apart))
            assert len(whole) == len(given)
            np.testing.assert_allclose(whole, parts, rtol=0, atol=LARGEST)
    assert len(encoded) == 1


def test_a_batch_equals_its_tiles(checkpoint):
    model = opened(checkpoint)
    pixels = tiles(3, model.size, seed=2)
    together, _ = model.decode(model.encode(pixels), [PROMPTS["three points"]] * 3)
    for i in range(3):
        alone, _ = model.decode(model.encode(pixels[i : i + 1]), [PROMPTS["three points"]])
        np.testing.assert_allclose(together[i], alone[0], rtol=0, atol=LARGEST)


def test_maps_kept_in_half_precision_give_the_same_mask(checkpoint):
    model, click = opened(checkpoint), [PROMPTS["one click"]]
    features = model.encode(tiles(1, model.size))
    kept = to_half(features)
    assert all(values.ndim == 4 and len(values) == 1 for values in kept.values())
    fresh, stored = (model.decode_all(f, click)[0] for f in (features, from_half(kept, model)))
    assert np.abs(fresh - stored).max() < 0.02 * fresh.std()


@pytest.mark.parametrize(("architecture", "step"), [("sam2", 32), ("sam3_tracker", 14)])
def test_encoders_without_a_size_of_their_own_take_others(tmp_path, architecture, step):
    random_network(architecture).save_pretrained(tmp_path)
    size = 3 * step if step == 32 else 6 * step
    model = load_model(str(tmp_path), tile_size=size, device="cpu")
    logits, _ = model.decode(model.encode(tiles(1, size)), [PROMPTS["one click"]])
    assert logits.shape == (1, size, size)
    with pytest.raises(ModelError, match=f"multiples of {step} px. Use {size}"):
        load_model(str(tmp_path), tile_size=size + 4)


@pytest.mark.parametrize("architecture", ["sam", "sam_hq"])
def test_encoders_with_positional_codes_take_their_own_size_only(tmp_path, architecture):
    random_network(architecture).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="takes 64 px only"):
        load_model(str(tmp_path), tile_size=96)


def test_the_tracker_is_taken_out_of_a_whole_sam3(tmp_path):
    whole = whole_sam3(tmp_path)
    model = load_model(str(tmp_path), precision="fp32", device="cpu")
    direct = Sam3TrackerModel.from_pretrained(tmp_path).eval()
    logits, _ = model.decode_all(model.encode(tiles(1, 56)), [PROMPTS["a box"]])
    expected, _ = called_directly(
        (tmp_path, direct, IMAGENET), tiles(1, 56), PROMPTS["a box"], several=True
    )
    np.testing.assert_allclose(logits[0], expected, rtol=0, atol=LARGEST)
    mine, theirs = model.network.mask_decoder, whole.tracker_model.mask_decoder
    assert torch.equal(mine.iou_token.weight, theirs.iou_token.weight)


def whole_sam3(folder):
    """Save a small SAM 3, detector and tracker, as its published checkpoint has them."""
    from safetensors.torch import save_file
    from transformers import Sam3VideoConfig, Sam3VideoModel

    from geosam.testing.networks import network_config

    tracker = network_config("sam3_tracker")
    vision = tracker["vision_config"] | {"scale_factors": [4.0, 2.0, 1.0, 0.5]}
    part = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 99}
    memory = {
        "memory_attention_hidden_size": 32,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_attention_rope_feat_sizes": [4, 4],
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": 32,
        "memory_fuser_num_layers": 1,
        "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 64,
    }
    config = Sam3VideoConfig(
        detector_config={
            "vision_config": vision,
            "text_config": {**text, "num_attention_heads": 2, "projection_dim": 32},
            "geometry_encoder_config": part,
            "detr_encoder_config": part,
            "detr_decoder_config": part | {"num_queries": 5},
            "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
        },
        tracker_config={**tracker, "vision_config": vision, "image_size": 56, **memory},
    )
    network = scramble(Sam3VideoModel(config))
    config.save_pretrained(folder)
    tensors = {name: values.clone() for name, values in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return network


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(OptionError, match="torch sees no CUDA device"):
        place("cuda")


@pytest.mark.parametrize(
    ("amx", "bf16", "maker", "quick"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_bfloat16_is_for_processors_that_are_quick_in_it(monkeypatch, amx, bf16, maker, quick):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr("geosam.models.device._processor", lambda: f"vendor_id : {maker}")
    assert place("cpu").dtype == (torch.bfloat16 if quick else torch.float32)


def test_bfloat16_is_for_gpus_that_compute_in_it_themselves(monkeypatch):
    current = [0]

    @contextmanager
    def made_current(device):
        current.append(device.index)
        yield
        current.pop()

    def supported(including_emulation=True):
        return including_emulation or current[-1] == 1  # the second is the newer one

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", made_current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert place("cuda:0").dtype == torch.float32
    assert place("cuda:1").dtype == torch.bfloat16
    assert current == [0]
