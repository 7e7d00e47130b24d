"""Small networks of every architecture with random weights: for tests of what surrounds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SPREAD = 0.15
"""Standard deviation of the weights. SAM's own initialisation (1e-10 in the encoder) gives masks that
are nearly constant, and whatever is compared on those looks equal."""

_VIT = {
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
}
_HIERA = {
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
}
_ROTARY = {
    "model_type": "sam3_vit_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "window_size": 2,
    "global_attn_indexes": [1],
    "pretrain_image_size": 28,
}
_LEVELS = [[16, 16], [8, 8], [4, 4]]
_DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
_STABLE: dict[str, Any] = {"dynamic_multimask_via_stability": False}
_VISION: dict[str, dict[str, Any]] = {
    "sam": _VIT,
    "sam_hq": _VIT,
    "sam2": {
        "backbone_config": _HIERA,
        "backbone_channel_list": [128, 64, 32, 16],
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": _LEVELS,
    },
    "sam3_tracker": {
        "model_type": "sam3_vision_model",
        "backbone_config": _ROTARY,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": _LEVELS,
        "scale_factors": [4.0, 2.0, 1.0],
    },
}
# As the original SAM has them, of whose files the shapes tell neither.
_ORIGINAL: dict[str, Any] = {"num_attention_heads": 8, "layer_norm_eps": 1e-5}
_EXTRA: dict[str, dict[str, Any]] = {
    "sam": _ORIGINAL,
    "sam_hq": {"vit_dim": 32},
    "sam2": _STABLE,
    "sam3_tracker": _STABLE,
}
ARCHITECTURES = tuple(_VISION)
"""The ``model_type`` of each."""


def network_config(architecture: str) -> dict[str, Any]:
    """Return the configuration of a small network: 64 px, and 56 px for SAM 3, whose patch is 14."""
    size, patch = (56, 14) if architecture.startswith("sam3") else (64, 16)
    prompts = {"hidden_size": 32, "image_size": size, "patch_size": patch, "mask_input_channels": 8}
    return {
        "vision_config": _VISION[architecture],
        "prompt_encoder_config": prompts,
        "mask_decoder_config": {**_DECODER, **_EXTRA[architecture]},
    }


def random_network(architecture: str, seed: int = 0) -> nn.Module:
    """Make a small network of an architecture, of about a hundred thousand weights.

    Parameters
    ----------
    architecture
        One of :data:`ARCHITECTURES`.
    seed
        The same seed, the same weights.
    """
    import transformers

    classes: dict[str, Any] = {
        "sam": (transformers.SamConfig, transformers.SamModel),
        "sam_hq": (transformers.SamHQConfig, transformers.SamHQModel),
        "sam2": (transformers.Sam2Config, transformers.Sam2Model),
        "sam3_tracker": (transformers.Sam3TrackerConfig, transformers.Sam3TrackerModel),
    }
    config, network = classes[architecture]
    return scramble(network(config(**network_config(architecture))), seed)


def save_original(network: Any, path: str | Path) -> None:
    """Write a SAM as a file of the original repository, its tensors renamed."""
    import torch

    from geosam.models.original_names import original_name

    config = network.config.to_dict()
    tensors = network.state_dict().items()
    torch.save({original_name(name, config): values for name, values in tensors}, path)


def scramble(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every matrix of a network anew, in place, so that its masks have some shape."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim >= 2:
            parameter.data = torch.randn(parameter.shape, generator=generator) * SPREAD
    return network.eval()
