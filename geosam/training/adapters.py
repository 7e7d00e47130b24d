"""Low-rank adapters: a small change of the encoder's attention that is merged when it is saved.

Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models,
https://arxiv.org/abs/2106.09685. Merged, the checkpoint has the layout it had, so that whatever
loads the one loads the other.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

DEFAULT_RANK = 8
ADAPTED = ("qkv", "q_proj", "k_proj", "v_proj")
"""The layers of the encoder's blocks that get an adapter."""


class LowRank(nn.Module):
    """A weight plus the product of two thin matrices, which is zero at first."""

    def __init__(self, weight: torch.Tensor, rank: int, rng: torch.Generator) -> None:
        super().__init__()
        rows, cols = weight.shape
        drawn = torch.randn(rank, cols, generator=rng) / cols**0.5
        self.down = nn.Parameter(drawn.to(weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight, (rows, cols)."""
        return weight + self.up @ self.down


def add_adapters(encoder: nn.Module, rank: int, seed: int) -> None:
    """Give every attention layer of an image encoder an adapter, in place; their first weights are seeded."""
    rng = torch.Generator().manual_seed(seed)
    for name, module in list(encoder.named_modules()):
        if name.split(".")[-1] in ADAPTED and isinstance(module, nn.Linear):
            parametrize.register_parametrization(
                module, "weight", LowRank(module.weight, rank, rng)
            )


def merged_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a network under their own names, adapters added in."""
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if ".parametrizations." not in name
    }
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            state[f"{name}.weight"] = module.weight.detach().clone()
    return state
