"""Losses over masks; ignored pixels carry weight zero."""

from __future__ import annotations

import torch
from torch.nn import functional


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


def mask_iou(predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Intersection over union of two masks where the weight is not zero, (...).

    Two empty masks agree: 1.
    """
    known = weight > 0
    predicted, target = (predicted > 0.5) & known, (target > 0.5) & known
    both = (predicted & target).sum((-2, -1)).float()
    either = (predicted | target).sum((-2, -1)).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))
