"""True pixel figures of a validation part: each image by itself, and all pixels together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geosam.evaluation import PixelScores, pixel_scores
from geosam.training.sample import IGNORE, WATER

DRY_SHARE = 0.01
"""Images with a smaller share of water count by their false water, not by IoU."""


def score_tile(water: np.ndarray, label: np.ndarray) -> PixelScores:
    """Count the pixels of an answer, (y, x) bool, against a label; IGNORE does not count."""
    return pixel_scores(water, label == WATER, label == IGNORE)


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
    wet = [s for s in known if s.true_water + s.missed_water >= DRY_SHARE * s.n_pixels]
    dry = [s for s in known if s.true_water + s.missed_water < DRY_SHARE * s.n_pixels]
    pooled = PixelScores(
        *(
            sum(getattr(s, name) for s in known)
            for name in ("true_water", "false_water", "missed_water", "true_land")
        )
    )
    ious = [s.iou for s in wet]
    return {
        "iou_median": float(np.median(ious)) if ious else float("nan"),
        "iou_mean": float(np.mean(ious)) if ious else float("nan"),
        "iou": pooled.iou,
        "f1": pooled.f1,
        "precision": pooled.precision,
        "recall": pooled.recall,
        "false_water": float(np.mean([s.false_water / s.n_pixels for s in dry]))
        if dry
        else float("nan"),
    }
