"""What both trainings share: wall-clock schedule, averaged weights, log, checkpoints."""

from __future__ import annotations

import copy
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Schedule:
    """Learning rate by wall time: a training ends when it was told to, on any machine."""

    minutes: float
    """Length of the whole training."""

    peak: float
    """Highest learning rate."""

    warmup: float = 0.03
    """Share of the time in which the rate rises."""

    def rate(self, progress: float) -> float:
        """Learning rate at a progress from 0 to 1."""
        if progress < self.warmup:
            return self.peak * max(0.05, progress / self.warmup)
        left = (progress - self.warmup) / (1 - self.warmup)
        return self.peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, left))))


class Clock:
    """Minutes since the start, and whether an interval has passed again.

    Minutes of processor time, if that is asked for, make trainings comparable that shared a machine
    with other work.
    """

    def __init__(
        self, minutes: float, every: float, elapsed: float = 0.0, *, of_processor: bool = False
    ) -> None:
        self.minutes, self.every = minutes, every
        self._seconds = time.process_time if of_processor else time.monotonic
        self.start = self._seconds() - 60 * elapsed
        self._next = elapsed + every

    @property
    def elapsed(self) -> float:
        """Minutes since the start."""
        return (self._seconds() - self.start) / 60

    @property
    def progress(self) -> float:
        """Share of the time that has passed."""
        return self.elapsed / self.minutes

    def rings(self) -> bool:
        """True once for every interval."""
        if self.elapsed < self._next:
            return False
        self._next = self.elapsed + self.every
        return True


class Average(Generic[Network]):
    """Exponential moving average of a network's weights and buffers."""

    def __init__(self, net: Network, decay: float = 0.999) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move a little towards the network; faster in the first steps."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mine, theirs in zip(
            self.net.state_dict().values(), net.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)


def build_optimizer(net: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels but neither biases nor norms."""
    decayed = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of an optimizer one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def append_row(path: Path, row: dict[str, object]) -> None:
    """Add one row to a CSV log, with a header when the file is new."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


@dataclass
class Tally:
    """What has been done so far; written into every checkpoint."""

    minutes: float = 0.0
    """Wall time."""

    steps: int = 0
    """Steps of the optimizer."""

    tiles: int = 0
    """Tiles seen."""

    def add(self, tiles: int) -> None:
        """Count one step."""
        self.steps += 1
        self.tiles += tiles


def load_state(path: Path, net: nn.Module, average: Average) -> Tally:
    """Restore weights from a checkpoint of `save_state` and say how far it had come.

    The moments of the optimizer are not kept: they are back after some dozens of steps.
    """
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["net"])
    average.net.load_state_dict(state["average"])
    average.steps = state["steps"]
    return Tally(state["minutes"], state["steps"], state["tiles"])


def save_state(path: Path, net: nn.Module, average: Average, **facts: object) -> None:
    """Write a checkpoint that a cut never leaves half-written."""
    partial = path.with_suffix(".partial")
    torch.save({"net": net.state_dict(), "average": average.net.state_dict(), **facts}, partial)
    partial.rename(path)
