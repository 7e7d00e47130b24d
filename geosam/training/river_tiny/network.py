"""The promptable network of `river-tiny`: its layout, first weights, tile size and files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import Sam2Config, Sam2Model
from transformers.models.sam2.configuration_sam2 import (
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from geosam.training.river_tiny.targets import STRIDE
from geosam.training.river_tiny.tiles import NODATA_FILL
from geosam.training.scratch import start_anew
from geosam.training.simulation import DENSE_LOGIT

TILE = 256
"""Tile size written into the configuration; others work by `set_tile_size`."""


PIXEL_STD = 0.25
"""Pixels 0 to 1 are shown to the network as (pixel - 0.5) / 0.25; nodata becomes 0."""


class NoPositions(torch.nn.Module):
    """Stands in for the neck's sine encoding: image segmentation never reads it, and computing it
    took a quarter of the encoder's time.
    """

    def forward(
        self, shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: object = None
    ) -> torch.Tensor:
        """One zero, whatever the shape asked for, (1, 1, 1, 1)."""
        return torch.zeros(1, 1, 1, 1, device=device, dtype=dtype)


def promptable_config(size: int = TILE) -> Sam2Config:
    """The SAM 2 layout of `river-tiny`: a stride of 2 in the stem, the embedding at stride 8."""
    widths = [24, 64, 128, 192]
    vision = Sam2VisionConfig(
        backbone_config={
            "model_type": "sam2_hiera_det_model",
            "hidden_size": widths[0],
            "num_attention_heads": 1,
            "image_size": [size, size],
            "patch_kernel_size": [7, 7],
            "patch_stride": [2, 2],
            "patch_padding": [3, 3],
            "window_positional_embedding_background_size": [7, 7],
            "blocks_per_stage": [1, 1, 3, 1],
            "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": [1, 2, 2, 3],
            "window_size_per_stage": [8, 8, 8, 8],
            "global_attention_blocks": [3],
            "mlp_ratio": 2.0,
        },
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=feature_sizes(size),
        fpn_hidden_size=96,
        fpn_top_down_levels=[0, 1, 2, 3],
    )
    prompts = Sam2PromptEncoderConfig(
        hidden_size=96, image_size=size, patch_size=8, mask_input_channels=64
    )
    decoder = Sam2MaskDecoderConfig(
        hidden_size=96,
        mlp_dim=384,
        num_attention_heads=4,
        iou_head_hidden_dim=96,
        dynamic_multimask_via_stability=False,
    )
    return Sam2Config(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )


def feature_sizes(size: int) -> list[list[int]]:
    """Heights and widths of the three feature maps of a square tile."""
    return [[size // stride, size // stride] for stride in (2, 4, 8)]


def set_tile_size(model: Sam2Model, size: int) -> Sam2Model:
    """Make a loaded `river-tiny` take square tiles of another size, in place.

    No weight depends on the size; what does are a few numbers that the model
    read from its configuration.

    Parameters
    ----------
    model : Sam2Model
    size : int
        A multiple of 32.

    Returns
    -------
    Sam2Model
    """
    encoder = model.prompt_encoder
    patch = cast("Any", model.config.prompt_encoder_config).patch_size
    model.backbone_feature_sizes = feature_sizes(size)
    encoder.image_embedding_size = (size // patch, size // patch)
    encoder.mask_input_size = (4 * size // patch, 4 * size // patch)
    encoder.input_image_size = size
    return model


def build_promptable(seed: int) -> Sam2Model:
    """An untrained network with weights of a sensible spread."""
    torch.manual_seed(seed)
    model = Sam2Model._from_config(promptable_config(), attn_implementation="eager")
    start_anew(model, seed)
    _balance(model)
    model.vision_encoder.neck.position_encoding = NoPositions()
    return model


def start_from(folder: Path) -> Sam2Model:
    """A finished network to go on from."""
    model = Sam2Model.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    model.vision_encoder.neck.position_encoding = NoPositions()
    return model


def _balance(model: Any) -> None:
    """Let the mask prompt come through from the first step.

    With plain initialisation the image's features drown it by a factor of four
    where they meet, and the network falls into answering with nothing.
    """
    quiet = [block.attn.proj for block in model.vision_encoder.backbone.blocks]
    quiet += [block.mlp.proj_out for block in model.vision_encoder.backbone.blocks]
    decoder = model.mask_decoder
    quiet += [m.o_proj for m in decoder.transformer.modules() if hasattr(m, "o_proj")]
    quiet += [layer.mlp.proj_out for layer in decoder.transformer.layers]
    quiet += [decoder.conv_s0, decoder.conv_s1]
    for module in quiet:
        module.weight.data.mul_(0.3)
    for mlp in decoder.output_hypernetworks_mlps:
        mlp.proj_out.weight.data.mul_(0.3)
        nn.init.normal_(mlp.proj_out.bias, std=0.5)
    model.prompt_encoder.mask_embed.conv3.weight.data.mul_(4.0)
    nn.init.trunc_normal_(model.vision_encoder.backbone.pos_embed_window, std=0.02)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels 0 to 1 as the network takes them; nodata becomes 0."""
    return (pixels - NODATA_FILL) / PIXEL_STD


def save_promptable(model: Sam2Model, folder: Path) -> None:
    """Write config.json, model.safetensors (float16) and preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = copy.deepcopy(set_tile_size(model, TILE))
    copied.half().save_pretrained(folder)
    facts = {
        "image_processor_type": "Sam2ImageProcessorFast",
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [NODATA_FILL] * 3,
        "image_std": [PIXEL_STD] * 3,
        "size": {"height": TILE, "width": TILE},
        "mask_size": {"height": TILE // STRIDE, "width": TILE // STRIDE},
        "dense_logit": DENSE_LOGIT,
        "sparse_as_mask": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(facts, indent=2) + "\n")
