"""Several processes that train together, one a GPU; alone, nothing of it does anything.

``accelerate launch --multi_gpu -m geosam train ...`` starts them. Not measured: no machine with
several GPUs was at hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from geosam.errors import OptionError


class Team:
    """The processes of a training. The first of them writes."""

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerator = accelerator
        self.rank = accelerator.process_index if accelerator else 0
        self.size = accelerator.num_processes if accelerator else 1
        self.device = str(accelerator.device) if accelerator else "auto"

    @property
    def leads(self) -> bool:
        """Whether this process writes and shows."""
        return self.rank == 0

    def share(self, items: Sequence[int]) -> Sequence[int]:
        """Return the items of a batch that this process works on."""
        return items[self.rank :: self.size]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the sum of the gradients of all."""
        if self._accelerator is None:
            return
        for parameter in parameters:
            gradient = parameter.grad
            gradient = torch.zeros_like(parameter) if gradient is None else gradient
            parameter.grad = self._accelerator.reduce(gradient, reduction="sum")

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        if self._accelerator is None:
            return values
        return self._accelerator.reduce(values, reduction="sum")

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def gather_team() -> Team:
    """Return the processes that were started together, or this one alone.

    Raises
    ------
    OptionError
        If several were started and accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Team()
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise OptionError(
            "Training in several processes needs accelerate: pip install geosam-toolkit[multi-gpu]."
        ) from error
    return Team(Accelerator())
