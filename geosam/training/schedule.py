"""The learning rate of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST, LAST = 0.1, 0.01
"""Shares of the highest rate with which it starts and, along a cosine, ends."""


@dataclass(frozen=True)
class StepSchedule:
    """Learning rate by step: it rises in a line and then falls along a cosine, or stays."""

    peak: float
    """Highest learning rate."""

    steps: int
    """Steps of the whole training."""

    warmup: int = 10
    """Steps in which it rises from a tenth."""

    shape: str = "cosine"
    """``cosine`` or ``constant``."""

    def rate(self, step: int) -> float:
        """Return the rate of a step, counted from 0.

        Examples
        --------
        >>> [round(StepSchedule(1.0, 100).rate(k), 2) for k in (0, 5, 10)]
        [0.1, 0.55, 1.0]
        """
        if step < self.warmup:
            return self.peak * (FIRST + (1 - FIRST) * step / self.warmup)
        if self.shape == "constant":
            return self.peak
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak * (LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
