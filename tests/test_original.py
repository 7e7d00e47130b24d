"""Files of the original SAM give the masks of the original SAM: its own code is the oracle.

The published networks are too large for a test, so small ones of the same code are saved by it. The
package is PyPI's segment-anything 1.0; it imports torchvision for what is not needed here.
"""

import sys
from functools import partial
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import pytest
import torch

from geosam.models.load import load_model
from geosam.models.original import describe_original
from geosam.types import PixelPrompts

pytestmark = pytest.mark.oracle
NONE = np.empty((1, 0, 2)), np.empty((1, 0), int)
LARGEST = 1e-4


@pytest.fixture(scope="module")
def modeling():
    """The networks of the reference implementation."""
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
    names += ("torchvision.transforms", "torchvision.transforms.functional")
    stubs = {name: MagicMock(spec=ModuleType) for name in names}
    for name in ("batched_nms", "box_area", "resize", "to_pil_image"):
        for stub in stubs.values():
            setattr(stub, name, None)
    with patch.dict(sys.modules, stubs):
        found = pytest.importorskip(
            "segment_anything", reason="needs the extra oracle: pip install '.[oracle]'"
        )
        return SimpleNamespace(**vars(found.modeling) | vars(found))


SIZES = {
    "two windows, two whole": {"depth": 4, "whole": (1, 3), "window": 2, "size": 64},
    "a window that does not divide": {"depth": 3, "whole": (2,), "window": 3, "size": 80},
    "all whole": {"depth": 2, "whole": (0, 1), "window": 0, "size": 64},
    "wider": {"depth": 2, "whole": (1,), "window": 2, "size": 64, "dim": 96, "heads": 3, "out": 64},
}


def build(modeling, depth, whole, window, size, dim=32, heads=2, out=32):
    """A SAM of any size, as `segment_anything.build_sam` builds the published three."""
    grid = size // 16
    encoder = modeling.ImageEncoderViT(
        depth=depth, embed_dim=dim, img_size=size, mlp_ratio=2, num_heads=heads, patch_size=16,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), qkv_bias=True, use_rel_pos=True,
        global_attn_indexes=whole, window_size=window, out_chans=out,
    )  # fmt: skip
    prompts = modeling.PromptEncoder(
        embed_dim=out, image_embedding_size=(grid, grid), input_image_size=(size, size),
        mask_in_chans=8,
    )  # fmt: skip
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=out, mlp_dim=64, num_heads=8)
    decoder = modeling.MaskDecoder(
        num_multimask_outputs=3, transformer=transformer, transformer_dim=out, iou_head_depth=3,
        iou_head_hidden_dim=48,
    )  # fmt: skip
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    return shaken(modeling.Sam(encoder, prompts, decoder, mean, std))


def shaken(network):
    """Random weights that give masks some shape; norms and biases too, or their order is not seen."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * 0.15 if parameter.ndim >= 2 else parameter.data + noise * 0.1
    return network.eval()


def answered(network, pixels, prompt, several):
    """Masks and scores of the reference implementation, the steps of its `Sam.forward`."""
    side = pixels.shape[-1]

    def tensor(values):
        return None if values is None else torch.tensor(values, dtype=torch.float32)

    with torch.no_grad():
        embedding = network.image_encoder(network.preprocess(tensor(pixels) * 255))
        points = (tensor(prompt.points - 0.5), torch.tensor(prompt.labels))
        boxes = None if prompt.boxes is None else tensor(prompt.boxes - 0.5)
        masks = prompt.masks
        if masks is not None:
            cells = masks.reshape(1, side // 4, 4, side // 4, 4).mean((2, 4))
            masks = tensor(np.where(cells >= 0.5, 6.0, -6.0)[None])
        sparse, dense = network.prompt_encoder(
            points=points if prompt.points.shape[1] else None, boxes=boxes, masks=masks
        )
        logits, scores = network.mask_decoder(
            image_embeddings=embedding,
            image_pe=network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
        )
        full = network.postprocess_masks(logits, (side, side), (side, side))
    return full[0].numpy(), scores[0].numpy()


PROMPTS = {
    "one click": PixelPrompts(np.array([[[20.5, 31.5]]]), np.array([[1]])),
    "three points": PixelPrompts(
        np.array([[[20.5, 31.5], [4.0, 60.0], [50.0, 7.0]]]), np.array([[1, 0, 1]])
    ),
    "a box": PixelPrompts(*NONE, boxes=np.array([[3.0, 5.0, 40.0, 60.0]])),
    "a click in a box": PixelPrompts(
        np.array([[[9.0, 9.0]]]), np.array([[1]]), boxes=np.array([[3.0, 5.0, 40.0, 60.0]])
    ),
    "a mask": PixelPrompts(*NONE, masks=np.tri(80, dtype=bool)[None]),
}


@pytest.fixture(scope="module", params=SIZES)
def saved(request, modeling, tmp_path_factory):
    network = build(modeling, **SIZES[request.param])
    path = tmp_path_factory.mktemp("original") / "sam.pth"
    torch.save(network.state_dict(), path)
    return path, network


@pytest.mark.parametrize("name", PROMPTS)
def test_masks_are_those_of_the_reference_implementation(saved, name):
    path, network = saved
    model = load_model(str(path), device="cpu", precision="fp32")
    side, prompt = model.size, PROMPTS[name]
    if prompt.masks is not None:
        prompt = PixelPrompts(*NONE, masks=prompt.masks[:, :side, :side])
    pixels = np.random.default_rng(1).random((1, 3, side, side), np.float32)
    features = model.encode(pixels)
    for several, (logits, scores) in {
        True: model.decode_all(features, [prompt]),
        False: model.answer(features, [prompt], several=False),
    }.items():
        if not several:
            logits = torch.nn.functional.interpolate(logits, size=(side, side), mode="bilinear")
        expected, theirs = answered(network, pixels, prompt, several)
        assert expected.std() > 1e-3
        np.testing.assert_allclose(logits[0], expected, rtol=0, atol=LARGEST)
        np.testing.assert_allclose(scores[0], theirs, rtol=0, atol=LARGEST)


PUBLISHED = {
    "vit_b": (768, 12, 12, [2, 5, 8, 11]),
    "vit_l": (1024, 24, 16, [5, 11, 17, 23]),
    "vit_h": (1280, 32, 16, [7, 15, 23, 31]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_are_told_from_their_shapes(modeling, name, tmp_path):
    from transformers import SamConfig, SamModel

    with torch.device("meta"):
        theirs = modeling.sam_model_registry[name]()
    config = describe_original(tmp_path, theirs.state_dict())
    vision, hidden = config["vision_config"], PUBLISHED[name]
    told = ("hidden_size", "num_hidden_layers", "num_attention_heads", "global_attn_indexes")
    assert tuple(vision[key] for key in told) == hidden
    assert (vision["image_size"], vision["window_size"]) == (1024, 14)
    with torch.device("meta"):
        mine = SamModel(SamConfig(**config))
    count = sum(p.numel() for p in mine.parameters())
    # transformers keeps the random frequencies as a weight, the original as a buffer.
    assert count == sum(p.numel() for p in theirs.parameters()) + 2 * 128
