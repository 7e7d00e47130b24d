"""SAM (ViT-B, L, H) as transformers has it, from a folder or from a file of the original repository.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from geosam.errors import ModelError
from geosam.models.checkpoint import read_config, read_normalisation, side_px, sign_weights
from geosam.models.device import Placement
from geosam.models.network import DenseNetwork
from geosam.models.original import load_original
from geosam.models.pretrained import load_pretrained
from geosam.models.token_layout import lay_out_tokens
from geosam.models.vit import embed
from geosam.types import Features

DEFAULT_SIZE_PX = 1024
"""Rows and columns of the input where the configuration does not say."""


@dataclass(frozen=True)
class Sam(DenseNetwork):
    """A SAM checkpoint. Its positional codes fix the input size."""

    _decoding: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """What the decoder of an architecture wants to know beside maps and prompts."""

    def _maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """One map, (n, channels, size / 16, size / 16)."""
        return {"embedding": embed(self.network.vision_encoder, batch)}

    def _keywords(self, features: Features) -> dict[str, Any]:
        return {"image_embeddings": features["embedding"]}

    def decode_dense(
        self, features: Features, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode dense prompts (n, channels, rows, columns) of n tiles and nothing else."""
        positions = self.network.get_image_wide_positional_embeddings()
        masks, scores = self.network.mask_decoder(
            **self._keywords(features),
            **self._decoding,
            image_positional_embeddings=positions.repeat(len(dense), 1, 1, 1),
            sparse_prompt_embeddings=None,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[:, 0, 0], scores[:, 0, 0]


def load_sam(name: str, path: Path, placement: Placement, tile_size: int | None) -> Sam:
    """Load a SAM checkpoint from a folder, or from a file of the original repository.

    Raises
    ------
    ModelError
        If the weights do not fit, or `tile_size` is not the checkpoint's own.
    """
    from transformers import SamModel

    size = fixed_size(name, path, tile_size)
    if path.is_file():
        network: Any = load_original(name, path, placement)
    else:
        network = load_pretrained(SamModel, name, path, placement)
    facts = (sign_weights(path), size, read_normalisation(path), placement)
    return Sam(name, *facts, lay_out_tokens(network))


def fixed_size(name: str, path: Path, tile_size: int | None) -> int:
    """Return the input size of a checkpoint that takes no other.

    Raises
    ------
    ModelError
        If `tile_size` is not that.
    """
    size = side_px(read_config(path).get("vision_config")) or DEFAULT_SIZE_PX
    if tile_size not in (None, size):
        raise ModelError(
            f"--tile-size {tile_size}: {name} takes {size} px only. Leave --tile-size out."
        )
    return size
