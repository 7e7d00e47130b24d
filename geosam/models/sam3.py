"""The promptable tracker of SAM 3 on single images, as transformers has it.

Carion et al. 2025, SAM 3: Segment Anything with Concepts, https://arxiv.org/abs/2511.16719. The
detector that finds what a text names is no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosam.models.checkpoint import (
    draws_prompts,
    read_config,
    read_normalisation,
    sign_weights,
)
from geosam.models.device import Placement
from geosam.models.pretrained import load_pretrained
from geosam.models.pyramid import NoPositions, PyramidModel, scaled, stepped_size
from geosam.models.token_layout import lay_out_tokens


@dataclass(frozen=True)
class Sam3(PyramidModel):
    """The tracker of a SAM 3 checkpoint. Any multiple of its patch (14 px) will do as its input size;
    a dense prompt network, whose cells are multiples of 4 px, cannot be made for it.
    """


def load_sam3(name: str, path: Path, placement: Placement, tile_size: int | None) -> Sam3:
    """Load the tracker of a SAM 3 checkpoint from a folder: of its own, or of the whole model.

    Raises
    ------
    ModelError
        If the weights do not fit, or `tile_size` is not a multiple of the patch.
    """
    from transformers import Sam3TrackerModel

    config = _tracker_config(path)
    prompts = config.prompt_encoder_config
    own = int(prompts.image_size)
    size = stepped_size(name, own, tile_size, int(prompts.patch_size))
    _resize(config, size, own)
    network: Any = load_pretrained(Sam3TrackerModel, name, path, placement, config=config)
    network.vision_encoder.neck.position_encoding = NoPositions()
    facts = (sign_weights(path), size, read_normalisation(path), placement, lay_out_tokens(network))
    return Sam3(name, *facts, draws_prompts(path))


def _tracker_config(path: Path) -> Any:
    """Return the configuration of the tracker, which that of the whole model has inside."""
    from transformers import Sam3TrackerConfig

    config = read_config(path)
    part = config.get("tracker_config", config)
    wanted = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    return Sam3TrackerConfig(**{name: part[name] for name in wanted if name in part})


def _resize(config: Any, size: int, own: int) -> None:
    """Write the input size into every part of the configuration that repeats it."""
    vision = config.vision_config
    vision.backbone_feature_sizes = scaled(vision.backbone_feature_sizes, size, own)
    vision.backbone_config.image_size = size
    config.prompt_encoder_config.image_size = size
