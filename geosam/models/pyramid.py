"""Encoders that give maps of three resolutions, as SAM 2 and SAM 3 have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from geosam.errors import ModelError
from geosam.models.network import NetworkModel
from geosam.types import Features


class NoPositions(torch.nn.Module):
    """Stands in for the neck's sine encoding: image segmentation never reads it, and computing it
    took a quarter of the encoder's time.
    """

    def forward(
        self, shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: object = None
    ) -> torch.Tensor:
        """One zero, whatever the shape asked for, (1, 1, 1, 1)."""
        return torch.zeros(1, 1, 1, 1, device=device, dtype=dtype)


@dataclass(frozen=True)
class PyramidModel(NetworkModel):
    """A checkpoint whose encoder gives ``level0`` to ``level2``, finest first. No weight depends on
    the input size.
    """

    def _maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        network = self.network
        flat = list(network.get_image_features(batch, return_dict=True).fpn_hidden_states)
        flat[-1] = flat[-1] + network.no_memory_embedding
        # A neck may have a coarser map beyond those that are decoded.
        return {
            f"level{i}": values.permute(1, 2, 0).reshape(len(batch), -1, *size)
            for i, (values, size) in enumerate(
                zip(flat, network.backbone_feature_sizes, strict=False)
            )
        }

    def _keywords(self, features: Features) -> dict[str, Any]:
        return {"image_embeddings": [features[f"level{i}"] for i in range(len(features))]}


def stepped_size(name: str, own: int, tile_size: int | None, step: int) -> int:
    """Return the input size of a checkpoint that takes every multiple of some pixels.

    Raises
    ------
    ModelError
        If it is no multiple.
    """
    size = tile_size or own
    if size % step:
        raise ModelError(
            f"--tile-size {size}: {name} takes multiples of {step} px. Use {size // step * step or step}."
        )
    return size


def scaled(sides: Sequence[Sequence[int]], size: int, own: int) -> list[list[int]]:
    """Return the sides of feature maps at another input size."""
    return [[side * size // own for side in pair] for pair in sides]
