"""The image encoder of SAM, with the weights of transformers and attention of our own.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from geosam.models.attention import attend, attend_by_place
from geosam.models.cache_parts import in_parts
from geosam.models.token_windows import join, split


def embed(encoder: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Embed pictures, differentiably.

    Parameters
    ----------
    encoder
        transformers' ``SamVisionEncoder``.
    pixels
        (n, 3, size, size), normalised.

    Returns
    -------
    Tensor (n, channels, size / patch, size / patch)
    """
    tokens = encoder.patch_embed(pixels)
    if encoder.pos_embed is not None:
        tokens = tokens + encoder.pos_embed
    for layer in encoder.layers:
        tokens = _layer(layer, tokens)
    return encoder.neck(tokens)


def _layer(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
    side, shape = layer.window_size, (tokens.shape[1], tokens.shape[2])
    normed = layer.layer_norm1(tokens)
    if side:
        attend_near = partial(_attention, layer.attn)
        mixed = in_parts(attend_near, split(normed, side), 3 * tokens.shape[-1])
        tokens = tokens + join(mixed, shape)
    else:
        tokens = tokens + _attention(layer.attn, normed)
    flat = in_parts(partial(_perceive, layer), tokens.flatten(0, 2), layer.mlp.lin1.out_features)
    return flat.reshape(tokens.shape)


def _perceive(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Add to each of (n, channels) what a layer makes of it alone."""
    return tokens + layer.mlp(layer.layer_norm2(tokens))


def _attention(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Let the tokens of each (n, y, x, channels) attend to one another."""
    n, height, width, _ = tokens.shape
    heads = attention.num_attention_heads
    joined = attention.qkv(tokens).reshape(n, height * width, 3, heads, -1)
    query, key, value = joined.permute(2, 0, 3, 1, 4)
    if attention.use_rel_pos:
        places = _places(attention, query, height, width)
        mixed = attend_by_place(query, key, value, *places)
    else:
        mixed = attend(query, key, value)
    return attention.proj(mixed.transpose(1, 2).reshape(n, height, width, -1))


def _places(
    attention: Any, query: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Products of queries with the vectors of each row and column, (n, heads, tokens, side) each."""
    down = attention.get_rel_pos(height, height, attention.rel_pos_h)
    across = attention.get_rel_pos(width, width, attention.rel_pos_w)
    squared = query.unflatten(2, (height, width))
    by_row = torch.einsum("nhyxc,ykc->nhyxk", squared, down)
    by_col = torch.einsum("nhyxc,xkc->nhyxk", squared, across)
    return by_row.flatten(2, 3), by_col.flatten(2, 3)
