"""Embeddings and prompts -> masks with gradients, as inference asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch.nn import functional

from geosam.models.network import NetworkModel
from geosam.training.mask_choice import asked, buckets, gives_several
from geosam.types import PixelPrompts


@dataclass(frozen=True)
class Answer:
    """What the decoder says of one tile."""

    logits: torch.Tensor
    """(m, y, x) float32 of m masks on the decoder's grid."""

    scores: torch.Tensor
    """(m,) predicted IoU."""


def answer(
    model: NetworkModel,
    features: dict[str, torch.Tensor],
    prompts: Sequence[PixelPrompts],
    choice: str,
) -> list[Answer]:
    """Ask for n tiles, each with a prompt of its own kind.

    Parameters
    ----------
    model
        Its network decodes, in float32: half precision would round a point to a pixel or more.
    features
        (n, channels, y, x) maps of the tiles.
    prompts
        One a tile.
    choice
        Of :mod:`geosam.training.mask_choice`.

    Returns
    -------
    list of Answer
        In the order of the prompts.
    """
    groups = [asked(prompt, choice) for prompt in prompts]
    owners = list(chain.from_iterable([i] * len(group) for i, group in enumerate(groups)))
    flat = list(chain.from_iterable(groups))
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for numbers in buckets(flat):
        chosen = [flat[i] for i in numbers]
        parts = {name: maps[[owners[i] for i in numbers]] for name, maps in features.items()}
        logits, scores = model.answer(parts, chosen, gives_several(chosen[0], choice))
        found.update(zip(numbers, zip(logits, scores, strict=True), strict=True))
    mine = [[i for i, owner in enumerate(owners) if owner == n] for n in range(len(prompts))]
    return [_gather([found[i] for i in numbers]) for numbers in mine]


def _gather(found: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Answer:
    return Answer(torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found]))


def enlarged(logits: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Bring (m, y, x) logits to the tile's own pixels, bilinearly, as inference does."""
    return functional.interpolate(
        logits[None], size=tuple(shape), mode="bilinear", align_corners=False
    )[0]
