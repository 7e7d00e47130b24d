"""Work on some of many tokens at a time, so that what a layer makes is still in the processor's cache when the next
one needs it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

PART_BYTES = 8 << 20
"""Of the widest layer, in float32, that are made at a time on a processor, but for one item at least. A ViT-B whose layers
are written out as a whole takes an eighth longer, because memory is asked for and left again; a pair of tiles takes 33 MB more in
the first blocks of river-tiny at once, and no less time."""


def in_parts(
    function: Callable[[torch.Tensor], torch.Tensor], items: torch.Tensor, width: int
) -> torch.Tensor:
    """Apply a function to (n, ..., channels), on a processor to some of n at a time.

    Parameters
    ----------
    function
        Gives as many items as it gets, and knows nothing of others.
    items
        (n, ..., channels).
    width
        Channels of the widest layer that it makes.
    """
    if items.device.type != "cpu":
        return function(items)
    item_bytes = width * items[0, ..., 0].numel() * items.element_size()
    return joined([function(some) for some in items.split(max(1, PART_BYTES // item_bytes))])


def joined(parts: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """Put parts together; one alone is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
