"""Attention of image encoders, with relative positions or without.

SAM adds to the weight of a key how far it lies from the query, down and across, each as a product of the query
with a learned vector (Li et al. 2022, MViTv2, https://arxiv.org/abs/2112.01526). Written out, that bias is
as large as the weights themselves, and most of the time goes into making and adding it. A product it stays
if each query carries its own products with the vectors behind its channels, and each key ones where its
row and its column are: then the weights of both come out of one product of queries and keys.

In float32 the bias is added, as transformers adds it, for some queries of one head at a time: there a
product of three times the channels takes longer than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional

from geosam.models.cache_parts import joined

BLOCK_BYTES = {"cpu": 2 << 20, "cuda": 1 << 28}
"""Of attention weights that are made at a time: on a processor they stay in its cache until they are used."""
BIAS_BYTES = 4 << 20
"""Of a bias that is written out at a time on a processor: with fewer queries torch's kernel takes a third longer."""


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Mix values by the softmax of the products of queries and keys.

    Parameters
    ----------
    query
        (n, heads, queries, channels).
    key
        (n, heads, keys, channels).
    value
        (n, heads, keys, channels of the result), at most those of the keys.
    scale
        Of the products; one by the root of the channels without it.

    Returns
    -------
    Tensor (n, heads, queries, channels of the result)
    """
    if _is_fused_quicker(query):
        # Kernels take values only that are as wide as the keys.
        missing = key.shape[-1] - value.shape[-1]
        wide = functional.pad(value, (0, missing)) if missing else value
        mixed = functional.scaled_dot_product_attention(query, key, wide, scale=scale)
        return mixed[..., : value.shape[-1]]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    flat = (part.flatten(0, 1) for part in (query * scale, key, value))
    return _by_products(*flat).unflatten(0, query.shape[:2])


def attend_by_place(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    down: torch.Tensor,
    across: torch.Tensor,
) -> torch.Tensor:
    """Mix values as :func:`attend` does, each key weighed by where it lies from the query as well.

    Parameters
    ----------
    query, key, value
        (n, heads, side * side, channels), tokens row by row.
    down, across
        (n, heads, side * side, side): what a query adds for each row, and for each column, of keys.
    """
    if query.dtype == torch.float32:
        return _with_bias(query, key, value, down, across)
    side = down.shape[-1]
    scaled = query * query.shape[-1] ** -0.5
    one = torch.eye(side, dtype=key.dtype, device=key.device)
    place = torch.cat([one.repeat_interleave(side, 0), one.repeat(side, 1)], dim=-1)
    placed = torch.cat([key, place.expand(*key.shape[:-1], -1)], dim=-1)
    return attend(torch.cat([scaled, down, across], dim=-1), placed, value, scale=1.0)


def _is_fused_quicker(query: torch.Tensor) -> bool:
    """Return whether torch's own kernel is: in bfloat16 it needs matrix instructions, else products
    take half its time.
    """
    on_cpu = query.device.type == "cpu"
    return not on_cpu or query.dtype == torch.float32 or torch.cpu._is_amx_tile_supported()


def _block_bytes(query: torch.Tensor) -> int:
    return BLOCK_BYTES.get(query.device.type, BLOCK_BYTES["cuda"])


def _by_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Mix values of (n, tokens, channels), some of n, or some queries of one, at a time."""
    row_bytes = key.shape[1] * query.element_size()
    together = max(1, _block_bytes(query) // (row_bytes * query.shape[1]))
    rows = max(1, _block_bytes(query) // row_bytes)
    parts = _split((query, key, value), together, 0)
    return joined(
        [
            joined([(some @ k.mT).softmax(dim=-1) @ v for some in q.split(rows, dim=1)], dim=1)
            for q, k, v in parts
        ]
    )


def _with_bias(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    down: torch.Tensor,
    across: torch.Tensor,
) -> torch.Tensor:
    """Mix values of (n, heads, tokens, channels) with the bias written out, for some of n, some heads or some
    queries at a time.
    """
    row_bytes = key.shape[2] * query.element_size()
    most = BIAS_BYTES if query.device.type == "cpu" else _block_bytes(query)
    heads = max(1, most // (row_bytes * query.shape[2]))
    pictures = max(1, heads // query.shape[1])
    rows = max(1, most // row_bytes)
    return joined(
        [
            joined([_by_rows(q, k, v, d, a, rows) for q, k, v, d, a in _split(some, heads, 1)], 1)
            for some in _split((query, key, value, down, across), pictures, 0)
        ]
    )


def _by_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    down: torch.Tensor,
    across: torch.Tensor,
    rows: int,
) -> torch.Tensor:
    mixed = [
        functional.scaled_dot_product_attention(
            q, key, value, attn_mask=(d[..., None] + a[..., None, :]).flatten(3)
        )
        for q, d, a in _split((query, down, across), rows, 2)
    ]
    return joined(mixed, dim=2)


def _split(
    tensors: Sequence[torch.Tensor], step: int, dim: int
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Split tensors alike."""
    return zip(*(tensor.split(step, dim) for tensor in tensors), strict=True)
