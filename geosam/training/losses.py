"""Losses over masks; ignored pixels carry weight zero."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from geosam.errors import OptionError
from geosam.training.sample import IGNORE, WATER

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits, target and weight, each (..., y, x), to one loss a mask, (...)."""


def dice_loss(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, smooth: float = 1.0
) -> torch.Tensor:
    """One minus the Dice coefficient of each mask.

    Parameters
    ----------
    logits, target, weight : torch.Tensor, (..., y, x)
        Target from 0 to 1, weight 0 where a pixel is ignored.
    smooth : float
        Added to both sides of the fraction, so that an empty mask answered
        with nothing costs nothing.

    Returns
    -------
    torch.Tensor, (...)
    """
    probability = torch.sigmoid(logits) * weight
    target = target * weight
    overlap = (probability * target).sum((-2, -1))
    total = probability.sum((-2, -1)) + target.sum((-2, -1))
    return 1 - (2 * overlap + smooth) / (total + smooth)


def bce_loss(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean binary cross-entropy of each mask, (...)."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1)


def focal_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> torch.Tensor:
    """Weighted mean focal loss of each mask, (...), as SAM is trained with.

    References
    ----------
    Lin et al. 2017, Focal Loss for Dense Object Detection.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = torch.sigmoid(logits)
    agreement = probability * target + (1 - probability) * (1 - target)
    balance = alpha * target + (1 - alpha) * (1 - target)
    loss = balance * (1 - agreement) ** gamma * entropy
    return (loss * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1)


def dice_ce_loss(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Dice with squared probabilities in the denominator plus cross-entropy of each mask, (...).

    The loss of the river recipe with an axis for the one class, so that rows are not taken for
    classes: a perfect answer costs nothing whatever way a river runs.

    References
    ----------
    Milletari et al. 2016, V-Net, for the squares.
    """
    probability = torch.sigmoid(logits)
    overlap = (probability * target * weight).sum((-2, -1))
    total = ((probability**2 + target**2) * weight).sum((-2, -1))
    dice = 1 - (2 * overlap + 1e-5) / (total + 1e-5)
    return dice + bce_loss(logits, target, weight)


LOSSES: dict[str, Loss] = {
    "focal": focal_loss,
    "dice": dice_loss,
    "ce": bce_loss,
    "dicece": dice_ce_loss,
}
"""The losses by the names that recipes use."""

_TERM = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)\*)?([a-z]+)")


@dataclass(frozen=True)
class WeightedLoss:
    """A weighted sum of losses."""

    name: str
    """As it was asked for."""

    terms: tuple[tuple[float, str], ...]
    """Weight and name of each loss."""

    def __call__(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """Return one loss a mask, (...)."""
        parts = [share * LOSSES[name](logits, target, weight) for share, name in self.terms]
        return torch.stack(parts).sum(0)


def parse_loss(text: str) -> WeightedLoss:
    """Read a weighted sum of losses.

    Raises
    ------
    OptionError
        If a term is no loss.

    Examples
    --------
    >>> parse_loss("0.95*focal+0.05*dicece").terms
    ((0.95, 'focal'), (0.05, 'dicece'))
    """
    matches = [_TERM.fullmatch(term.strip()) for term in text.split("+")]
    if any(match is None or match[2] not in LOSSES for match in matches):
        raise OptionError(
            f"Loss {text!r} must be a sum of {', '.join(LOSSES)}, such as 0.95*focal+0.05*dicece."
        )
    return WeightedLoss(text, tuple((float(m[1] or 1), m[2]) for m in matches if m))


def as_target(label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn a label of LAND, WATER and IGNORE into target and weight, both float32 (..., y, x)."""
    return (label == WATER).float(), (label != IGNORE).float()


def mask_iou(predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Intersection over union of two masks where the weight is not zero, (...).

    Two empty masks agree: 1.
    """
    known = weight > 0
    predicted, target = (predicted > 0.5) & known, (target > 0.5) & known
    both = (predicted & target).sum((-2, -1)).float()
    either = (predicted | target).sum((-2, -1)).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))
