"""The learned coarse water networks, ready to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geosam.models.checkpoint import EMBEDDED, sign_weights
from geosam.models.device import Placement, place
from geosam.models.unet import fuse_norms, load_coarse

COARSE_TILE_PX = 512
"""Side of the network's input here. It takes any multiple of 32; larger tiles see more context."""
COARSE_OVERLAP_PX = 128
"""Pixels that neighbouring inputs share."""
INFRARED = "nir"
"""Of the bands that a network sees: then it is the one that learned what water looks like there."""


@dataclass(frozen=True)
class LearnedCoarse:
    """A network that turns three bands into water logits, without prompts and whatever the model."""

    signature: str
    placement: Placement
    network: torch.nn.Module

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Turn (n, 3, size, size) float32 in [0, 1] (0.5 where nodata) into logits
        (n, size, size) float32.
        """
        with torch.inference_mode(), self.placement.cast():
            batch = self.placement.send(pixels)
            logits = self.network(batch.contiguous(memory_format=torch.channels_last))
            return logits[:, 0].float().cpu().numpy()


def load_learned(
    bands: Sequence[str] = ("red", "green", "blue"), device: str = "auto", precision: str = "auto"
) -> LearnedCoarse:
    """Load the coarse network that ships inside the package for three bands: red, green, blue, or
    near infrared, red, green.
    """
    folder = EMBEDDED["river-tiny"] / ("coarse_infrared" if INFRARED in bands else "coarse")
    placement = place(device, precision)
    network = fuse_norms(load_coarse(folder)).eval().requires_grad_(False)
    network = network.to(placement.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LearnedCoarse(sign_weights(folder), placement, network)
