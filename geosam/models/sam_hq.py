"""SAM-HQ as transformers has it: SAM with one more mask token, which also sees an early layer.

Ke et al. 2023, Segment Anything in High Quality, https://arxiv.org/abs/2306.01567.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from geosam.models.checkpoint import read_normalisation, sign_weights
from geosam.models.device import Placement
from geosam.models.pretrained import load_pretrained
from geosam.models.sam import Sam, fixed_size
from geosam.models.token_layout import lay_out_tokens
from geosam.types import Features


@dataclass(frozen=True)
class SamHq(Sam):
    """A SAM-HQ checkpoint. Its masks are the sum of SAM's and of the high-quality token's."""

    _decoding = MappingProxyType({"hq_token_only": False})

    def _maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """SAM's map, and what left the first layer that looks at the whole tile."""
        output = self.network.vision_encoder(batch)
        # Of the layers in between, the decoder reads the first only.
        early = output.intermediate_embeddings[0].permute(0, 3, 1, 2)
        return {"embedding": output.last_hidden_state, "early": early}

    def _keywords(self, features: Features) -> dict[str, Any]:
        return {
            "image_embeddings": features["embedding"],
            "intermediate_embeddings": [features["early"].permute(0, 2, 3, 1)],
        }


def load_sam_hq(name: str, path: Path, placement: Placement, tile_size: int | None) -> SamHq:
    """Load a SAM-HQ checkpoint from a folder.

    Raises
    ------
    ModelError
        If the weights do not fit, or `tile_size` is not the checkpoint's own.
    """
    from transformers import SamHQModel

    size = fixed_size(name, path, tile_size)
    network = load_pretrained(SamHQModel, name, path, placement)
    facts = (sign_weights(path), size, read_normalisation(path), placement)
    return SamHq(name, *facts, lay_out_tokens(network))
