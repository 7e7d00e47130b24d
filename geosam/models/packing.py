"""Weights in 16 or in 8 bits -> a file, and back to float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch

SCALE = ".scale"
"""Ends the name of what a tensor in 8 bits is multiplied with, one number for each output channel."""
MOST = 127
"""Largest step of 8 bits."""


def pack(state: Mapping[str, torch.Tensor], bits: int = 16) -> dict[str, torch.Tensor]:
    """Turn weights into float16, or kernels and matrices into int8 with a float32 scale for each output channel.

    Parameters
    ----------
    state
        float32 tensors by name. Biases stay in float16: there is nothing to be saved.
    bits
        16 or 8. Eight are off by half a step at most, 1/254 of a channel's largest weight.
    """
    packed = {}
    for name, value in state.items():
        if bits == 16 or value.ndim < 2:
            packed[name] = value.half().contiguous()
            continue
        scale = (value.abs().flatten(1).amax(1) / MOST).clamp(min=torch.finfo(value.dtype).tiny)
        steps = torch.round(value / _along(scale, value))
        packed[name] = steps.to(torch.int8).contiguous()
        packed[name + SCALE] = scale
    return packed


def unpack(packed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn what :func:`pack` returned back into float32 tensors by name."""
    return {
        name: value.float() * _along(packed[name + SCALE], value)
        if name + SCALE in packed
        else value.float()
        for name, value in packed.items()
        if not name.endswith(SCALE)
    }


def _along(scale: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """One number for each output channel, shaped to be multiplied with a tensor."""
    return scale.reshape(-1, *[1] * (value.ndim - 1))
