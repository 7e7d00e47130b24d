"""SAM 2 and 2.1 image models as transformers has them, of any square input size.

Ravi et al. 2024, SAM 2: Segment Anything in Images and Videos, https://arxiv.org/abs/2408.00714.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geosam.errors import ModelError
from geosam.models.checkpoint import Normalisation, draws_prompts, read_normalisation, sign_weights
from geosam.models.device import Placement
from geosam.models.hiera import embed
from geosam.models.pretrained import load_pretrained
from geosam.models.prompt_tensors import decode_every_mask, decode_prompts
from geosam.types import Features, PixelPrompts

SIZE_STEP = 32
"""Input sizes are multiples of this, so that every stage of the encoder has whole cells."""


@dataclass(frozen=True)
class Sam2:
    """A SAM 2 checkpoint. No weight depends on the input size, so any multiple of 32 will do."""

    name: str
    signature: str
    size: int
    normalisation: Normalisation
    placement: Placement
    network: Any
    draws: bool = False
    """Whether clicks and boxes are drawn into the mask prompt as well."""

    def encode(self, pixels: np.ndarray) -> Features:
        """Turn (n, 3, size, size) float32 in [0, 1] into three maps, finest first."""
        with torch.inference_mode():
            return self.embed(pixels)

    def embed(self, pixels: np.ndarray) -> dict[str, torch.Tensor]:
        """Do the same with gradients, where these are wanted."""
        batch = self.placement.send(self.normalisation.apply(pixels))
        with self.placement.cast():
            maps = embed(self.network, batch)
        return {f"level{i}": feature_map.float() for i, feature_map in enumerate(maps)}

    def decode(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (n, size, size) and predicted IoU (n,), one for each tile."""
        maps = [features[f"level{i}"] for i in range(len(features))]
        mask_size = self.network.prompt_encoder.mask_input_size
        return decode_prompts(
            self.network, maps, prompts, mask_size, self.size, self.placement, self.draws
        )

    def decode_all(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return every mask of an ambiguous prompt: logits (n, m, size, size), scores (n, m)."""
        maps = [features[f"level{i}"] for i in range(len(features))]
        mask_size = self.network.prompt_encoder.mask_input_size
        return decode_every_mask(
            self.network, maps, prompts, mask_size, self.size, self.placement, self.draws
        )

    @property
    def dense_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a dense prompt."""
        rows, cols = self.network.prompt_encoder.image_embedding_size
        return self.network.config.prompt_encoder_config.hidden_size, rows, cols

    def decode_dense(
        self, features: Features, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode dense prompts without any point or box, differentiably.

        Parameters
        ----------
        features
            Of n tiles.
        dense
            (n, channels, rows, columns), in the place of the prompt encoder's.

        Returns
        -------
        tuple
            Logits (n, 4 rows, 4 columns) and predicted IoU (n,).
        """
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


def load_sam2(name: str, folder: Path, placement: Placement, tile_size: int | None) -> Sam2:
    """Load a SAM 2 checkpoint from a folder, for its own input size or another.

    Raises
    ------
    ModelError
        If the weights do not fit, or `tile_size` is not a multiple of 32.
    """
    from transformers import Sam2Config, Sam2Model

    config: Any = Sam2Config.from_pretrained(folder)
    size = tile_size or int(config.prompt_encoder_config.image_size)
    if size % SIZE_STEP:
        raise ModelError(
            f"--tile-size {size}: {name} takes multiples of {SIZE_STEP} px. Use {size // SIZE_STEP * SIZE_STEP or SIZE_STEP}."
        )
    _resize(config, size)
    network = load_pretrained(Sam2Model, name, folder, placement, config=config)
    return Sam2(
        name,
        sign_weights(folder),
        size,
        read_normalisation(folder),
        placement,
        network,
        draws_prompts(folder),
    )


def _resize(config: Any, size: int) -> None:
    """Write the input size into every part of the configuration that repeats it."""
    old = config.prompt_encoder_config.image_size
    vision = config.vision_config
    vision.backbone_feature_sizes = [
        [side * size // old for side in sides] for sides in vision.backbone_feature_sizes
    ]
    config.prompt_encoder_config.image_size = size
