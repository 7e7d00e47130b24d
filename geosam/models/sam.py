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
from geosam.models.prompt_tensors import decode_prompts
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
        batch = torch.as_tensor(self.normalisation.apply(pixels))
        with torch.inference_mode(), self.placement.cast():
            embedding = self.network.get_image_embeddings(batch.to(self.placement.device))
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
