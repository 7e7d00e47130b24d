"""Fresh weights for a network whose layout is kept."""

from __future__ import annotations

import torch
from torch import nn

from geosam.training.freeze import FIXED


def start_anew(network: nn.Module, seed: int) -> None:
    """Draw every weight anew, in place.

    transformers draws SAM's encoder with a standard deviation of 1e-10, from which nothing is
    learned; here every layer keeps the spread of what passes it. The random frequencies of the
    positional code stay.

    Parameters
    ----------
    network
        A promptable network of transformers.
    seed
        The same seed, the same weights.

    References
    ----------
    Glorot and Bengio 2010 for linear layers, He et al. 2015 for convolutions.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == FIXED:
                continue
            values = _fresh(module, name, parameter.detach().cpu(), generator)
            parameter.data.copy_(values)


def _fresh(
    module: nn.Module, name: str, like: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    values = torch.empty_like(like)
    if isinstance(module, nn.Linear) and name == "weight":
        return nn.init.xavier_uniform_(values, generator=generator)
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and name == "weight":
        return nn.init.kaiming_normal_(values, nonlinearity="linear", generator=generator)
    if isinstance(module, nn.Embedding):
        return nn.init.normal_(values, std=0.5, generator=generator)
    if name == "bias" or name.startswith("rel_pos"):
        return values.zero_()
    if name == "weight":
        # Norms, whose class differs from model to model.
        return values.fill_(1.0)
    return nn.init.trunc_normal_(values, std=0.02, generator=generator)
