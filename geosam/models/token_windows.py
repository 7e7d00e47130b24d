"""Tokens of a picture -> square windows of them, and back."""

from __future__ import annotations

import torch
from torch.nn import functional


def split(tokens: torch.Tensor, side: int) -> torch.Tensor:
    """Cut (n, y, x, channels) into windows, (n * windows, side, side, channels).

    What does not divide is filled up with zeros at the bottom and on the right.
    """
    n, height, width, channels = tokens.shape
    if height % side or width % side:
        tokens = functional.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
    down, across = (size // side for size in tokens.shape[1:3])
    cut = tokens.reshape(n, down, side, across, side, channels)
    return cut.transpose(2, 3).reshape(-1, side, side, channels)


def join(windows: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Put windows together again, (n, y, x, channels), without what was filled up.

    Parameters
    ----------
    windows
        (n * windows, side, side, channels).
    shape
        y and x.
    """
    side = windows.shape[1]
    height, width = shape
    down, across = -(-height // side), -(-width // side)
    cut = windows.reshape(-1, down, across, side, side, windows.shape[-1])
    tokens = cut.transpose(2, 3).reshape(-1, down * side, across * side, windows.shape[-1])
    return tokens[:, :height, :width]
