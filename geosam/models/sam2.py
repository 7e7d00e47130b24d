"""SAM 2 and 2.1 image models as transformers has them, of any square input size.

Ravi et al. 2024, SAM 2: Segment Anything in Images and Videos, https://arxiv.org/abs/2408.00714.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geosam.models.checkpoint import draws_prompts, read_normalisation, sign_weights
from geosam.models.device import Placement
from geosam.models.hiera import embed
from geosam.models.network import DenseNetwork
from geosam.models.pretrained import load_pretrained
from geosam.models.pyramid import PyramidModel, scaled, stepped_size
from geosam.models.token_layout import lay_out_tokens
from geosam.types import Features

SIZE_STEP = 32
"""Input sizes are multiples of this, so that every stage of the encoder has whole cells."""


@dataclass(frozen=True)
class Sam2(PyramidModel, DenseNetwork):
    """A SAM 2 checkpoint. Any multiple of 32 will do as its input size."""

    def _maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {f"level{i}": values for i, values in enumerate(embed(self.network, batch))}

    def decode_dense(
        self, features: Features, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode dense prompts (n, channels, rows, columns) of n tiles and nothing else."""
        *finer, coarsest = (features[f"level{i}"] for i in range(len(features)))
        n, device = len(coarsest), coarsest.device
        positions = self.network.get_image_wide_positional_embeddings()
        # SAM 2 says "no point" with a point of label -1, not by leaving points out.
        sparse, _ = self.network.prompt_encoder(
            input_points=torch.zeros(n, 1, 1, 2, device=device),
            input_labels=-torch.ones(n, 1, 1, dtype=torch.int32, device=device),
            input_boxes=None,
            input_masks=None,
        )
        masks, scores, _, _ = self.network.mask_decoder(
            image_embeddings=coarsest,
            image_positional_embeddings=positions.repeat(n, 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=finer,
        )
        return masks[:, 0, 0], scores[:, 0, 0]


def load_sam2(name: str, path: Path, placement: Placement, tile_size: int | None) -> Sam2:
    """Load a SAM 2 checkpoint from a folder, for its own input size or another.

    Raises
    ------
    ModelError
        If the weights do not fit, or `tile_size` is not a multiple of 32.
    """
    from transformers import Sam2Config, Sam2Model

    config: Any = Sam2Config.from_pretrained(path)
    own = int(config.prompt_encoder_config.image_size)
    size = stepped_size(name, own, tile_size, SIZE_STEP)
    _resize(config, size, own)
    network: Any = load_pretrained(Sam2Model, name, path, placement, config=config)
    facts = (sign_weights(path), size, read_normalisation(path), placement, lay_out_tokens(network))
    return Sam2(name, *facts, draws_prompts(path))


def _resize(config: Any, size: int, own: int) -> None:
    """Write the input size into every part of the configuration that repeats it."""
    vision = config.vision_config
    vision.backbone_feature_sizes = scaled(vision.backbone_feature_sizes, size, own)
    config.prompt_encoder_config.image_size = size
