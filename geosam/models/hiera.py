"""The image encoder of SAM 2, with the weights of transformers and the same sums in another order.

Ryali et al. 2023, Hiera, https://arxiv.org/abs/2306.00989; Ravi et al. 2024, SAM 2,
https://arxiv.org/abs/2408.00714. transformers computes attention weights once more than it reads them, and
sine positions that image segmentation never reads. Its two finest maps are made as wide as the coarsest
and thinned out by the decoder's first layers; both steps are linear, so here they are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from geosam.models.attention import attend
from geosam.models.cache_parts import PART_BYTES, in_parts
from geosam.models.token_windows import join, split


def embed(network: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Embed pictures, differentiably.

    Parameters
    ----------
    network
        transformers' ``Sam2Model``.
    pixels
        (n, 3, size, size), normalised; the size is a multiple of 32.

    Returns
    -------
    list of Tensor
        (n, channels, y, x) at strides 4, 8 and 16 (of the published models), finest first.
    """
    backbone = network.vision_encoder.backbone
    tokens = backbone.patch_embed(pixels)
    # Channels come last from here on, or every sum and norm of the first blocks would turn them.
    tokens = (tokens + _positions(backbone, tokens.shape[1:3])).contiguous()
    stages = []
    for number, block in enumerate(backbone.blocks):
        tokens = _by_parts(block, tokens)
        if number in backbone.stage_ends:
            stages.append(tokens.permute(0, 3, 1, 2))
    return _pyramid(network, stages)


def _positions(backbone: Any, shape: Sequence[int]) -> torch.Tensor:
    """Return what tokens learn of their place, (1, y, x, channels): one map for the picture, enlarged bicubically,
    and one for a window, repeated.

    Rows and columns are enlarged by a product each, which takes a tenth of the time of both at once.
    """
    wide, near = backbone.pos_embed, backbone.pos_embed_window
    with torch.autocast(wide.device.type, enabled=False):
        down, across = (_bicubic(n, k, wide) for n, k in zip(shape, wide.shape[2:], strict=True))
        enlarged = torch.einsum("yi,ncij,xj->nyxc", down, wide, across)
    repeats = [n // k for n, k in zip(shape, near.shape[2:], strict=True)]
    return enlarged + near.tile(1, 1, *repeats).permute(0, 2, 3, 1)


def _bicubic(size: int, before: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weights of `before` values in each of `size` that bicubic interpolation makes of them."""
    one = torch.eye(before, dtype=like.dtype, device=like.device)[None, None]
    return functional.interpolate(one, size=(size, before), mode="bicubic")[0, 0]


def _by_parts(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Apply a block to (n, y, x, channels), some pictures or rows of windows at a time."""
    if tokens.device.type != "cpu":
        return _block(block, tokens)
    n, height, width, channels = tokens.shape
    row_bytes = 3 * block.dim_out * width * tokens.element_size()
    rows = _rows_at_once(block.window_size, height, width, row_bytes)
    strips = tokens.reshape(-1, rows, width, channels)
    made = in_parts(partial(_block, block), strips, 3 * block.dim_out)
    return made.reshape(n, -1, *made.shape[2:])


def _rows_at_once(side: int, height: int, width: int, row_bytes: int) -> int:
    """Return how many rows a block takes at a time: of windows whole ones, which know nothing of each other."""
    if not side or height % side or width % side:
        return height
    down = height // side
    most = max(1, PART_BYTES // (side * row_bytes))
    return side * max(k for k in range(1, down + 1) if down % k == 0 and k <= most)


def _block(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    normed = block.layer_norm1(tokens)
    if block.dim != block.dim_out:
        tokens = _pool(block.proj(normed), block.query_stride)
    if block.window_size:
        mixed = _attention(block.attn, split(normed, block.window_size))
        mixed = join(mixed, (tokens.shape[1], tokens.shape[2]))
    else:
        mixed = _attention(block.attn, normed)
    tokens = tokens + mixed
    return tokens + block.mlp(block.layer_norm2(tokens))


def _attention(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Let the tokens of each (n, y, x, channels) attend to one another; queries may be pooled."""
    n, height, width, _ = tokens.shape
    heads = attention.num_attention_heads
    joined = attention.qkv(tokens).reshape(n, height * width, 3, heads, -1)
    query, key, value = joined.unbind(2)
    if attention.query_stride:
        pooled = _pool(query.reshape(n, height, width, -1), attention.query_stride)
        height, width = pooled.shape[1:3]
        query = pooled.reshape(n, height * width, heads, -1)
    mixed = attend(*(part.transpose(1, 2) for part in (query, key, value)))
    return attention.proj(mixed.transpose(1, 2).reshape(n, height, width, -1))


def _pool(tokens: torch.Tensor, stride: Any) -> torch.Tensor:
    """Keep the largest of each `stride` cells of (n, y, x, channels)."""
    if not stride:
        return tokens
    return functional.max_pool2d(tokens.permute(0, 3, 1, 2), stride, stride).permute(0, 2, 3, 1)


def _pyramid(network: Any, stages: list[torch.Tensor]) -> list[torch.Tensor]:
    """Bring the stages to the maps that the decoder takes, each told by the coarser ones."""
    neck, decoder = network.vision_encoder.neck, network.mask_decoder
    last = len(stages) - 1
    coarse = neck.convs[0](stages[last])
    for level in range(last - 1, 1, -1):
        lateral = neck.convs[last - level](stages[level])
        coarse = _told(neck, level, lateral, coarse)
    fine, middle = decoder.conv_s0, decoder.conv_s1
    n_fine = fine.weight.shape[0]
    # The middle map through both layers: what the finest is told gets that one's bias there.
    both = torch.cat([fine.weight, middle.weight])
    shift = torch.cat([torch.zeros_like(fine.bias), middle.bias])
    thin = functional.conv2d(coarse, both)
    second = _told(neck, 1, _through(neck.convs[last - 1], stages[1], both, shift), thin)
    first = _through(neck.convs[last], stages[0], fine.weight, fine.bias)
    first = _told(neck, 0, first, second[:, :n_fine])
    return [first, second[:, n_fine:], coarse + network.no_memory_embedding.reshape(1, -1, 1, 1)]


def _told(neck: Any, level: int, lateral: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
    """Add what the coarser level says, where the configuration wants that."""
    if level not in neck.fpn_top_down_levels:
        return lateral
    return lateral + functional.interpolate(coarser, scale_factor=2.0, mode="nearest")


def _through(
    lateral: Any, stage: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Apply a lateral layer and then one of (out, channels, 1, 1) weights, as one layer."""
    thin = weight[:, :, 0, 0]
    with torch.autocast(weight.device.type, enabled=False):
        joined = torch.einsum("oc,cikl->oikl", thin, lateral.weight)
        shift = thin @ lateral.bias + bias
    return functional.conv2d(stage, joined, shift, lateral.stride, lateral.padding)
