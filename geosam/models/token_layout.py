"""How maps lie in memory when a mask decoder makes tokens of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_MAPS = ("image_embeddings", "image_positional_embeddings")


def lay_out_tokens(network: Any) -> Any:
    """Let the transformer of a mask decoder be given maps whose channels come last, and return the network.

    Its tokens are views of the maps. With pixels last, every sum of tokens and what a layer made of them
    turns one of both: a tenth of the decoder's time. The values are the same.

    Parameters
    ----------
    network
        Of a SAM-family class of transformers.
    """
    network.mask_decoder.transformer.register_forward_pre_hook(_channels_last, with_kwargs=True)
    return network


def _channels_last(
    module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    turned = {
        name: value.contiguous(memory_format=torch.channels_last)
        for name, value in keywords.items()
        if name in _MAPS
    }
    return arguments, {**keywords, **turned}
