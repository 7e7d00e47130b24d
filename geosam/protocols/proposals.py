"""Proposals of objects from a grid of clicks: how many of the true ones are among them.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, section 7.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from geosam.cutouts import Cutout, mask_ious
from geosam.generation import generate_masks
from geosam.generation_rules import GenerationRules
from geosam.protocols.examples import Dataset, examples
from geosam.protocols.matching import THRESHOLDS, match
from geosam.protocols.strata import SIZES, by_size, mean
from geosam.types import ManyMaskModel

DENSE = GenerationRules(
    points_per_side=64,
    box_nms_thresh=0.9,
    mask_nms_thresh=1.0,
    pred_iou_thresh=0,
    stability_score_thresh=0,
)
"""More clicks and fewer dropped than in a map of everything: recall is what counts."""


@dataclass(frozen=True)
class ProposalScores:
    """Average recall of the proposals; NaN where there is no object."""

    n_objects: int
    """True objects."""
    n_proposals: float
    """Mean proposals a picture."""
    limit: int
    """Most proposals of a picture that counted."""
    average_recall: float
    """Recall averaged over IoU thresholds 0.5 to 0.95."""
    average_recall_by_size: dict[str, float]
    """The same by size of the object."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def proposals(
    model: ManyMaskModel,
    dataset: Dataset,
    *,
    rules: GenerationRules = DENSE,
    limit: int = 1000,
    sizes: Mapping[str, tuple[float, float]] = SIZES,
) -> ProposalScores:
    """Propose masks without knowing what to look for, and count the true objects among them.

    Parameters
    ----------
    model
        Gives several masks a click.
    dataset
        Of pictures of the model's size.
    rules
        Where to click, and which masks stay.
    limit
        Most proposals of a picture, by the mean of predicted IoU and stability.
    sizes
        Least area in pixels, and that from which on an object is larger, by name.

    Returns
    -------
    ProposalScores

    Raises
    ------
    InputError
        A picture has not the model's size.
    ModelError
        The model gives one mask a click only.
    """
    found, truths = [], []
    for example in examples(dataset):
        # Where nothing is known is treated as nodata: no proposal is held against an object there.
        masks = generate_masks(model, example.pixels, rules, ~example.ignore)
        masks.sort(key=lambda mask: -mask.confidence)
        found.append([mask.cutout for mask in masks])
        truths.append(example.cutouts)
    return score_proposals(found, truths, limit=limit, sizes=sizes)


def score_proposals(
    found: Sequence[Sequence[Cutout]],
    truths: Sequence[Sequence[Cutout]],
    *,
    limit: int = 1000,
    sizes: Mapping[str, tuple[float, float]] = SIZES,
) -> ProposalScores:
    """Compute the average recall of proposals.

    Each true object is found by one proposal at most, and each proposal finds one.

    Parameters
    ----------
    found
        Proposals of each picture, best first.
    truths
        True objects of each picture.
    limit, sizes
        As for :func:`proposals`.

    Returns
    -------
    ProposalScores
    """
    pairs = list(zip(found, truths, strict=True))
    recalled = [_recalled(mask_ious(mine[:limit], true)) for mine, true in pairs]
    share = np.concatenate([np.empty(0), *recalled])
    areas = np.array([true.area for _, trues in pairs for true in trues])
    return ProposalScores(
        n_objects=len(areas),
        n_proposals=mean(np.array([len(mine[:limit]) for mine, _ in pairs])),
        limit=limit,
        average_recall=mean(share),
        average_recall_by_size=by_size(share, areas, sizes),
    )


def _recalled(ious: np.ndarray) -> np.ndarray:
    """Share of the IoU thresholds at which each object is found, (m,)."""
    found = np.zeros(ious.shape[1])
    for threshold in THRESHOLDS:
        matched = match(ious, threshold)
        found[matched[matched >= 0]] += 1
    return found / len(THRESHOLDS)
