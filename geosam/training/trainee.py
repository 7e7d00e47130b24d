"""What is trained, as the loop of :mod:`geosam.training.fit` sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from geosam.training.scores import Answered


class Trainee(Protocol):
    """A network with its data and its losses. The loop knows nothing else of it.

    Everything random in it comes from the seed, the epoch and the item, so that a training that
    was cut goes on as if it had not been.
    """

    @property
    def items(self) -> Sequence[int]:
        """Numbers of the training items; the loop shuffles them anew each epoch."""

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return the tensors that the optimizer changes, by name; they are what a resumed run
        restores.
        """

    def train(self) -> None:
        """Prepare for an epoch: what is trained is in training mode, what is frozen is not."""

    def losses(self, items: Sequence[int], epoch: int) -> Mapping[str, torch.Tensor]:
        """Return losses of some items, each (n,) float32 in their order.

        The first is optimised, all are logged. A loss may be NaN: the loop says of which item.
        """

    def validate(self) -> Mapping[str, float]:
        """Return figures of the validation part, ``loss`` (lower is better) among them.

        Higher is better for all others that the loop may choose the best epoch by.
        """

    def answers(self) -> Iterator[Answered]:
        """Answer the tiles of the validation part one by one, as :meth:`validate` measures them."""

    def save(self, folder: Path) -> None:
        """Write the network into an empty folder, as it is loaded again."""
