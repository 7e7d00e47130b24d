"""True pixel figures of tiles that a network in training answered: each by itself, and pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geosam.scores import PixelScores, pixel_scores
from geosam.summaries import DRY_SHARE, SetEvaluation, score_label
from geosam.summaries import summarise as summarise_images
from geosam.training.sample import IGNORE, WATER

POOLED = ("iou", "f1", "precision", "recall")
"""Figures that are told of all pixels together."""


@dataclass(frozen=True)
class Answered:
    """What a network answered to one tile of its validation part."""

    item: int
    """Number of the tile."""

    losses: Mapping[str, float]
    """By name; the first is optimised."""

    water: np.ndarray
    """(size, size) bool."""

    label: np.ndarray
    """(size, size) uint8 of LAND, WATER and IGNORE."""


def score_tile(water: np.ndarray, label: np.ndarray) -> PixelScores:
    """Count the pixels of an answer, (y, x) bool, against a label; IGNORE does not count."""
    return pixel_scores(water, label == WATER, label == IGNORE)


def figures(answers: Iterable[Answered], names: Sequence[str]) -> dict[str, float]:
    """Return what an epoch is told by.

    Parameters
    ----------
    answers
        Of the validation part.
    names
        Of the losses; the first is also told as ``loss``.

    Returns
    -------
    dict
        The mean of each loss, and the figures of :func:`summarise`; NaN where there are no tiles.
    """
    losses: list[Mapping[str, float]] = []
    scores: list[PixelScores] = []
    for answered in answers:
        losses.append(answered.losses)
        scores.append(score_tile(answered.water, answered.label))
    means = {name: _mean([row[name] for row in losses]) for name in names}
    return {"loss": means[names[0]], **means, **summarise(scores)}


def examine(answers: Iterable[Answered], names: Sequence[str] = ()) -> SetEvaluation | None:
    """Return everything that can be told of answers; None where there is none.

    Parameters
    ----------
    answers
        Of a part.
    names
        What its tiles are called; their numbers without it.
    """
    images = [
        score_label(
            answered.water.astype(np.uint8),
            answered.label,
            name=names[answered.item] if names else str(answered.item),
        )
        for answered in answers
    ]
    return summarise_images(images) if any(image.pixels.n_pixels for image in images) else None


def summarise(scores: Sequence[PixelScores]) -> dict[str, float]:
    """Return the figures of a set of tiles.

    Returns
    -------
    dict
        ``iou_median`` and ``iou_mean`` over tiles with at least 1 % water; ``iou``, ``f1``,
        ``precision`` and ``recall`` over all pixels together; ``false_water``, the mean share of
        false water over the other tiles. NaN where there are no such tiles.
    """
    known = [s for s in scores if s.n_pixels]
    ious = [s.iou for s in known if s.water_share_truth >= DRY_SHARE]
    dry = [s.false_water_share for s in known if s.water_share_truth < DRY_SHARE]
    pooled = sum(known, PixelScores(0, 0, 0, 0))
    return {
        "iou_median": float(np.median(ious)) if ious else float("nan"),
        "iou_mean": _mean(ious),
        **{name: getattr(pooled, name) if known else float("nan") for name in POOLED},
        "false_water": _mean(dry),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
