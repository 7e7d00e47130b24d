"""How many tiles at once a device has room for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

CPU_BATCH = 2
"""Tiles at once on a processor: more are not faster."""
SMALL_PX = 512
"""Networks of a larger input take one tile at once there: two are not faster, and need more memory."""
MOST_BATCH = 16
"""A GPU is busy with that many."""
SHARE = 0.25
"""Of the free memory: two batches may be under way at once, decoding and other programs need some as well."""


def batch_size_for(model: Any) -> int:
    """Return how many tiles a model takes at once: a power of two, from the memory that one needs.

    Parameters
    ----------
    model
        A loaded model; on a CUDA device one tile is encoded to see what it takes.
    """
    device = getattr(getattr(model, "placement", None), "device", None)
    if device is None or device.type != "cuda":
        return CPU_BATCH if model.size <= SMALL_PX else 1
    free, _ = torch.cuda.mem_get_info(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    model.encode(np.full((1, 3, model.size, model.size), 0.5, np.float32))
    needed = max(1, torch.cuda.max_memory_allocated(device) - before)
    return power_of_two(free * SHARE / needed)


def power_of_two(most: float) -> int:
    """Return the largest power of two up to a number, 1 to :data:`MOST_BATCH`."""
    bounded = min(max(1.0, most), float(MOST_BATCH))
    return 1 << (int(bounded).bit_length() - 1)
