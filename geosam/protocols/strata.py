"""Objects by size, as COCO divides them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

SIZES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}
)
"""Least area, and the area from which on an object is larger, in pixels, by name."""


def by_size(
    values: np.ndarray, areas: np.ndarray, sizes: Mapping[str, tuple[float, float]] = SIZES
) -> dict[str, float]:
    """Average values, (n,) or (n, k), over objects of each size; NaN where there are none."""
    return {
        name: mean(values[(areas >= low) & (areas < high)]) for name, (low, high) in sizes.items()
    }


def mean(values: np.ndarray) -> float:
    """Average values; NaN where there are none."""
    return float(np.mean(values)) if np.size(values) else float("nan")
