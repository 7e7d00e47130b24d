"""Feature maps of a model <-> arrays that can be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from geosam.types import Features, Model


def to_half(features: Features) -> dict[str, np.ndarray]:
    """Return feature maps as float16 arrays, the tile as their first axis."""
    return {name: _as_array(array).astype(np.float16) for name, array in features.items()}


def from_half(arrays: Mapping[str, np.ndarray], model: Model) -> Features:
    """Return what :func:`to_half` gave as feature maps of the model that made them, in float32."""
    placement = getattr(model, "placement", None)
    if placement is None:
        return {name: array.astype(np.float32) for name, array in arrays.items()}
    return {name: placement.send(array).float() for name, array in arrays.items()}


def encoder_of(model: Any) -> Model:
    """Return what makes the features that are worth keeping: a model that prompts itself without its
    prompts, which cost little and are another network's.
    """
    return model.model if hasattr(model, "prompt") else model


def prompted(features: Features, show: Callable[[], np.ndarray], model: Any) -> Features:
    """Add to features of :func:`encoder_of` what the model itself makes of the pixels, if it does."""
    return model.prompt(features, show()) if hasattr(model, "prompt") else features


def _as_array(array: Any) -> np.ndarray:
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
