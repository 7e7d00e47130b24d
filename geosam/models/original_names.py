"""What the original SAM repository calls the tensors that transformers calls otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
"""The random frequencies, which transformers keeps twice."""

_PATTERNS = {
    r"shared_image_embedding\.positional_embedding": POSITIONS,
    r"prompt_encoder\.shared_embedding\.positional_embedding": POSITIONS,
    r"vision_encoder\.(pos_embed)": r"image_encoder.\1",
    r"vision_encoder\.patch_embed\.projection\.(.*)": r"image_encoder.patch_embed.proj.\1",
    r"vision_encoder\.layers\.(\d+)\.layer_norm(\d)\.(.*)": r"image_encoder.blocks.\1.norm\2.\3",
    r"vision_encoder\.layers\.(\d+)\.(attn|mlp)\.(.*)": r"image_encoder.blocks.\1.\2.\3",
    r"vision_encoder\.neck\.conv1\.(.*)": r"image_encoder.neck.0.\1",
    r"vision_encoder\.neck\.layer_norm1\.(.*)": r"image_encoder.neck.1.\1",
    r"vision_encoder\.neck\.conv2\.(.*)": r"image_encoder.neck.2.\1",
    r"vision_encoder\.neck\.layer_norm2\.(.*)": r"image_encoder.neck.3.\1",
    r"prompt_encoder\.mask_embed\.conv1\.(.*)": r"prompt_encoder.mask_downscaling.0.\1",
    r"prompt_encoder\.mask_embed\.layer_norm1\.(.*)": r"prompt_encoder.mask_downscaling.1.\1",
    r"prompt_encoder\.mask_embed\.conv2\.(.*)": r"prompt_encoder.mask_downscaling.3.\1",
    r"prompt_encoder\.mask_embed\.layer_norm2\.(.*)": r"prompt_encoder.mask_downscaling.4.\1",
    r"prompt_encoder\.mask_embed\.conv3\.(.*)": r"prompt_encoder.mask_downscaling.6.\1",
    r"prompt_encoder\.point_embed\.(.*)": r"prompt_encoder.point_embeddings.\1",
    r"prompt_encoder\.(no_mask_embed|not_a_point_embed)\.(.*)": r"prompt_encoder.\1.\2",
    r"mask_decoder\.(iou_token|mask_tokens)\.(.*)": r"mask_decoder.\1.\2",
    r"mask_decoder\.transformer\.layer_norm_final_attn\.(.*)": r"mask_decoder.transformer.norm_final_attn.\1",
    r"mask_decoder\.transformer\.layers\.(\d+)\.layer_norm(\d)\.(.*)": r"mask_decoder.transformer.layers.\1.norm\2.\3",
    r"mask_decoder\.transformer\.(.*)": r"mask_decoder.transformer.\1",
    r"mask_decoder\.upscale_conv1\.(.*)": r"mask_decoder.output_upscaling.0.\1",
    r"mask_decoder\.upscale_layer_norm\.(.*)": r"mask_decoder.output_upscaling.1.\1",
    r"mask_decoder\.upscale_conv2\.(.*)": r"mask_decoder.output_upscaling.3.\1",
}
"""Names of transformers, whole, and those of the original; the first that fits counts."""

_PERCEPTRON = re.compile(
    r"mask_decoder\.(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.(.+)\.(weight|bias)"
)
HYPERNETWORK_LAYERS = 3
"""Layers of the perceptrons that turn a mask token into the weights of its mask."""


def original_name(name: str, config: Mapping[str, Any]) -> str:
    """Return what the original calls a tensor of transformers' ``SamModel``.

    Parameters
    ----------
    name
        In ``SamModel.state_dict()``.
    config
        Of the network: ``mask_decoder_config.iou_head_depth`` is read.

    Raises
    ------
    KeyError
        If the tensor has no counterpart.

    Examples
    --------
    >>> original_name("vision_encoder.layers.3.layer_norm1.bias", {})
    'image_encoder.blocks.3.norm1.bias'
    """
    if match := _PERCEPTRON.fullmatch(name):
        part, layer, kind = match.groups()
        is_head = part == "iou_prediction_head"
        depth = config["mask_decoder_config"]["iou_head_depth"] if is_head else HYPERNETWORK_LAYERS
        return f"mask_decoder.{part}.layers.{_layer(layer, depth)}.{kind}"
    for pattern, text in _PATTERNS.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(text)
    raise KeyError(name)


def _layer(name: str, depth: int) -> int:
    """Number of a perceptron's layer, whose first and last transformers names apart."""
    ends = {"proj_in": 0, "proj_out": depth - 1}
    return ends[name] if name in ends else int(name.removeprefix("layers.")) + 1
