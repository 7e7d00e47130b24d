"""Checkpoints of the original SAM repository: one file of tensors, under names of its own.

``sam_vit_b_01ec64.pth`` and its siblings, and what was tuned from them and saved with
``torch.save(model.state_dict(), ...)``, in https://github.com/facebookresearch/segment-anything.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geosam.errors import ModelError
from geosam.models.device import Placement
from geosam.models.original_names import POSITIONS, original_name
from geosam.models.pickled import read_tensors

DECODER_HEADS = 8
"""Attention heads of the decoder: no shape tells them, and the original knows no other number."""
ENCODER_EPS, DECODER_EPS = 1e-6, 1e-5
"""What is added to the variance in layer norms; transformers has the first throughout by default."""
_NAMED = 5
"""Tensors that an error names."""


def load_original(name: str, path: Path, placement: Placement) -> torch.nn.Module:
    """Load a file of the original repository into the network of transformers, strictly.

    Raises
    ------
    ModelError
        If the file is something else, or a tensor is missing, left over or of another shape.
    """
    from transformers import SamConfig, SamModel

    tensors = read_original(path)
    config = describe_original(path, tensors)
    try:
        with torch.device("meta"):
            network: Any = SamModel(SamConfig(**config))
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"{path} has shapes that make no SAM ({error}).") from error
    _check_names(path, tensors, network)
    wanted = {key: tensors[original_name(key, config)] for key in network.state_dict()}
    copies = {key: tensor.to(torch.float32, copy=True) for key, tensor in wanted.items()}
    network.load_state_dict(copies, assign=True)
    network.tie_weights()
    return network.eval().requires_grad_(False).to(placement.device)


def read_original(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file of the original repository by their names.

    Raises
    ------
    ModelError
        If it is something else; the message says what, where that is known.
    """
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"Model {path} is a file, and none that torch.save wrote, or a part of one. Give a checkpoint "
            "of the original SAM (.pth), the folder of a checkpoint that transformers wrote, or river-tiny."
        )
    tensors = read_tensors(path)
    if "image_encoder.pos_embed" not in tensors or "mask_decoder.hf_token.weight" in tensors:
        raise ModelError(f"Model {path} is no checkpoint of the original SAM: {_what(tensors)}")
    return tensors


def _what(tensors: Mapping[str, torch.Tensor]) -> str:
    """Say what a file of tensors is instead."""
    for sign, text in _OTHERS.items():
        if any(name.startswith(sign) for name in tensors):
            return text
    return f"it has no image_encoder.pos_embed among its {len(tensors)} tensors (first: {min(tensors)})."


_OTHERS = {
    "sam_mask_decoder.": "it is one of SAM 2. Fetch it as transformers has it, for example facebook/sam2.1-hiera-tiny.",
    "mask_decoder.hf_token.": "it is one of SAM-HQ. Fetch it as transformers has it, for example syscv-community/sam-hq-vit-base.",
    "vision_encoder.": "its tensors have the names of transformers. Save it with save_pretrained, and give that folder.",
}
"""First letters of a tensor's name, and what has such tensors."""


def describe_original(
    path: Path, tensors: Mapping[str, torch.Tensor] | None = None
) -> dict[str, Any]:
    """Return the configuration that transformers would give to a file, read from its shapes.

    Parameters
    ----------
    path
        The file.
    tensors
        What is in it, where that is read already.

    Raises
    ------
    ModelError
        If a tensor is missing that tells the architecture.
    """
    tensors = read_original(path) if tensors is None else tensors
    shape = partial(_shape, path, tensors)
    rows = shape("image_encoder.pos_embed", 4)[1]
    patch = shape("image_encoder.patch_embed.proj.weight", 4)[2]
    hidden, channels = shape("prompt_encoder.mask_downscaling.6.weight", 4)[:2]
    sizes = {"image_size": rows * patch, "patch_size": patch}
    prompts = {"hidden_size": hidden, "mask_input_channels": channels}
    return {
        "model_type": "sam",
        "vision_config": {**sizes, **_encoder(tensors, shape)},
        "prompt_encoder_config": {**sizes, **prompts},
        "mask_decoder_config": _decoder(tensors, shape),
    }


def _encoder(tensors: Collection[str], shape: Any) -> dict[str, Any]:
    _, rows, _, hidden = shape("image_encoder.pos_embed", 4)
    return {
        "hidden_size": hidden,
        "output_channels": shape("image_encoder.neck.0.weight", 4)[0],
        "mlp_dim": shape("image_encoder.blocks.0.mlp.lin1.weight", 2)[0],
        "qkv_bias": "image_encoder.blocks.0.attn.qkv.bias" in tensors,
        "num_pos_feats": shape(POSITIONS, 2)[1],
        "layer_norm_eps": ENCODER_EPS,
        **_attention(tensors, shape, rows, hidden),
    }


def _attention(tensors: Collection[str], shape: Any, rows: int, hidden: int) -> dict[str, Any]:
    """Return layers, heads and windows of the encoder, which the relative positions tell."""
    depth = _count(tensors, "image_encoder.blocks.")
    sides = [shape(f"image_encoder.blocks.{i}.attn.rel_pos_h", 2) for i in range(depth)]
    reach = [(length + 1) // 2 for length, _ in sides]
    windows = [side for side in reach if side != rows]
    return {
        "num_hidden_layers": depth,
        "num_attention_heads": hidden // sides[0][1],
        "global_attn_indexes": [i for i, side in enumerate(reach) if side == rows],
        "window_size": windows[0] if windows else rows,
    }


def _decoder(tensors: Collection[str], shape: Any) -> dict[str, Any]:
    masks, hidden = shape("mask_decoder.mask_tokens.weight", 2)
    inner = shape("mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight", 2)
    return {
        "hidden_size": hidden,
        "num_multimask_outputs": masks - 1,
        "num_hidden_layers": _count(tensors, "mask_decoder.transformer.layers."),
        "num_attention_heads": DECODER_HEADS,
        "attention_downsample_rate": inner[1] // inner[0],
        "mlp_dim": shape("mask_decoder.transformer.layers.0.mlp.lin1.weight", 2)[0],
        "iou_head_depth": _count(tensors, "mask_decoder.iou_prediction_head.layers."),
        "iou_head_hidden_dim": shape("mask_decoder.iou_prediction_head.layers.0.weight", 2)[0],
        "layer_norm_eps": DECODER_EPS,
    }


def _shape(
    path: Path, tensors: Mapping[str, torch.Tensor], name: str, rank: int
) -> tuple[int, ...]:
    if name not in tensors:
        raise ModelError(
            f"Model {path} is incomplete: it has no tensor {name}. Fetch the whole file anew."
        )
    found = tuple(tensors[name].shape)
    if len(found) != rank or 0 in found:
        raise ModelError(f"Model {path} is no SAM: its tensor {name} has the shape {found}.")
    return found


def _count(tensors: Collection[str], start: str) -> int:
    """Number of the layers whose names begin so."""
    numbers = (name[len(start) :].split(".")[0] for name in tensors if name.startswith(start))
    return max((int(n) + 1 for n in numbers if n.isdigit()), default=0)


def _check_names(path: Path, tensors: Mapping[str, torch.Tensor], network: Any) -> None:
    """Refuse a file that has less, more or other tensors than the network."""
    config = network.config.to_dict()
    wanted = {original_name(key, config): tensor for key, tensor in network.state_dict().items()}
    there = {name: tensor.shape for name, tensor in tensors.items()}
    found = {
        "missing": [name for name in wanted if name not in there],
        "left over": [name for name in there if name not in wanted],
        "of another shape": [n for n, t in wanted.items() if n in there and there[n] != t.shape],
    }
    if any(found.values()):
        faults = "; ".join(f"{what}: {_list(names)}" for what, names in found.items() if names)
        raise ModelError(
            f"Model {path} does not fit the SAM that its shapes describe ({faults}). Fetch the file anew, "
            "or save the whole state dict."
        )


def _list(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest
