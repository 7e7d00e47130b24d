"""Embeddings and prompts -> masks with gradients, as inference asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.nn import functional

from geosam.models.prompt_tensors import prompt_tensors
from geosam.models.sam import Sam
from geosam.models.sam2 import Sam2
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
    model: Sam | Sam2,
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
        logits, scores = _decode(model, parts, chosen, gives_several(chosen[0], choice))
        found.update(zip(numbers, zip(logits, scores, strict=True), strict=True))
    mine = [[i for i, owner in enumerate(owners) if owner == n] for n in range(len(prompts))]
    return [_gather([found[i] for i in numbers]) for numbers in mine]


def _gather(found: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Answer:
    return Answer(torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found]))


def _decode(
    model: Sam | Sam2, features: dict[str, torch.Tensor], prompts: list[PixelPrompts], several: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (n, m, y, x) and predicted IoU (n, m) of prompts of one kind."""
    draws = getattr(model, "draws", False)
    embeddings: Any = list(features.values()) if isinstance(model, Sam2) else features["embedding"]
    tensors = prompt_tensors(
        prompts, mask_size(model), model.placement, model.size if draws else None
    )
    output = model.network(image_embeddings=embeddings, multimask_output=several, **tensors)
    return output.pred_masks[:, 0].float(), output.iou_scores[:, 0].float()


def mask_size(model: Sam | Sam2) -> tuple[int, int]:
    """Return (rows, columns) of the network's mask input, which are also those of its answers."""
    if isinstance(model, Sam2):
        rows, cols = model.network.prompt_encoder.mask_input_size
        return int(rows), int(cols)
    side = 4 * int(model.network.prompt_encoder.image_embedding_size[0])
    return side, side


def enlarged(logits: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Bring (m, y, x) logits to the tile's own pixels, bilinearly, as inference does."""
    return functional.interpolate(
        logits[None], size=tuple(shape), mode="bilinear", align_corners=False
    )[0]
