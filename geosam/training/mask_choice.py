"""One answer out of several masks: from several points, or from SAM's three guesses at one click.

``joint`` is SAM's native use: all points of a prompt together give one mask; a lone click gives
three, of which the one with the lowest loss learns and the one with the highest predicted IoU
counts. ``mean`` and ``best`` ask with every point on water alone (and all points on land): the mean
of the logits, or the mask with the highest predicted IoU, as the river recipe has them.
``minimum`` asks all points together for three masks whatever the prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from geosam.models.prompt_tensors import wants_several_masks
from geosam.types import PixelPrompts


def asked(prompt: PixelPrompts, choice: str) -> list[PixelPrompts]:
    """Return the prompts that one tile is asked with, of which each gives masks of its own."""
    labels = prompt.labels[0]
    if choice in ("joint", "minimum") or (labels == 1).sum() < 2:
        return [prompt]
    land = np.flatnonzero(labels != 1)
    kept = [np.append(number, land) for number in np.flatnonzero(labels == 1)]
    return [
        replace(prompt, points=prompt.points[:, chosen], labels=prompt.labels[:, chosen])
        for chosen in kept
    ]


def gives_several(prompt: PixelPrompts, choice: str) -> bool:
    """Return whether a prompt is answered with three masks."""
    return choice == "minimum" or (choice == "joint" and wants_several_masks(prompt.kind))


def buckets(prompts: Sequence[PixelPrompts]) -> list[list[int]]:
    """Group the numbers of prompts by kind, so that none is ever padded."""
    groups = defaultdict(list)
    for number, prompt in enumerate(prompts):
        groups[prompt.kind].append(number)
    return list(groups.values())


def choose(
    logits: torch.Tensor, scores: torch.Tensor, choice: str, losses: torch.Tensor | None = None
) -> torch.Tensor:
    """Make one answer of the masks of one tile.

    Parameters
    ----------
    logits
        (m, y, x) of m masks.
    scores
        (m,) predicted IoU.
    choice
        ``joint``, ``mean``, ``best`` or ``minimum``.
    losses
        (m,) of the masks while training; without them (the truth is not to be looked at) the
        predicted IoU stands for the loss.

    Returns
    -------
    torch.Tensor, (y, x)
    """
    if choice == "mean":
        return logits.mean(0)
    if choice == "best" or losses is None:
        return logits[scores.argmax()]
    return logits[losses.argmin()]
