"""SAM (ViT-B, L, H) as transformers has it.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geosam.errors import ModelError
from geosam.models.checkpoint import Normalisation, read_config, read_normalisation, sign_weights
from geosam.models.device import Placement
from geosam.models.pretrained import load_pretrained
from geosam.models.prompt_tensors import decode_every_mask, decode_prompts
from geosam.models.vit import embed
from geosam.types import Features, PixelPrompts


@dataclass(frozen=True)
class Sam:
    """A SAM checkpoint. Its positional codes fix the input size."""

    name: str
    signature: str
    size: int
    normalisation: Normalisation
    placement: Placement
    network: Any

    def encode(self, pixels: np.ndarray) -> Features:
        """Turn (n, 3, size, size) float32 in [0, 1] into one (n, channels, size/16, size/16) map."""
        with torch.inference_mode():
            return self.embed(pixels)

    def embed(self, pixels: np.ndarray) -> dict[str, torch.Tensor]:
        """Do the same with gradients, where these are wanted."""
        batch = self.placement.send(self.normalisation.apply(pixels))
        with self.placement.cast():
            embedding = embed(self.network.vision_encoder, batch)
        return {"embedding": embedding.float()}

    def decode(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (n, size, size) and predicted IoU (n,), one for each tile."""
        embedding = features["embedding"]
        side = 4 * embedding.shape[-1]
        return decode_prompts(
            self.network, embedding, prompts, (side, side), self.size, self.placement
        )

    def decode_all(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return every mask of an ambiguous prompt: logits (n, m, size, size), scores (n, m)."""
        embedding = features["embedding"]
        side = 4 * embedding.shape[-1]
        return decode_every_mask(
            self.network, embedding, prompts, (side, side), self.size, self.placement
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
        embedding = features["embedding"]
        positions = self.network.get_image_wide_positional_embeddings()
        masks, scores = self.network.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=positions.repeat(len(embedding), 1, 1, 1),
            sparse_prompt_embeddings=None,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[:, 0, 0], scores[:, 0, 0]


def load_sam(name: str, folder: Path, placement: Placement, tile_size: int | None) -> Sam:
    """Load a SAM checkpoint from a folder.

    Raises
    ------
    ModelError
        If the weights do not fit, or `tile_size` is not the checkpoint's own.
    """
    from transformers import SamModel

    size = int(read_config(folder).get("vision_config", {}).get("image_size", 1024))
    if tile_size not in (None, size):
        raise ModelError(
            f"--tile-size {tile_size}: {name} takes {size} px only. Leave --tile-size out."
        )
    network = load_pretrained(SamModel, name, folder, placement)
    return Sam(name, sign_weights(folder), size, read_normalisation(folder), placement, network)
