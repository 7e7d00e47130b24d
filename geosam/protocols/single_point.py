"""One click on every object: is the mask the model rates best the right one, or another of its
masks?

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, section 7.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from geosam.calibration import spearman
from geosam.decoding import decode_clicks, encode_picture
from geosam.protocols.examples import Dataset, Example, examples
from geosam.protocols.strata import SIZES, by_size, mean
from geosam.scores import pixel_scores
from geosam.types import ManyMaskModel


@dataclass(frozen=True)
class SinglePointScores:
    """IoU of the masks of one click an object; NaN where there is none."""

    n_objects: int
    """Objects clicked."""
    top1: float
    """Mean IoU of the mask that the model rates best."""
    oracle: float
    """Mean IoU of the best of its masks: never less."""
    top1_by_size: dict[str, float]
    """The first by size of the object."""
    oracle_by_size: dict[str, float]
    """The second by size of the object."""
    rank_correlation: float
    """Spearman's, of predicted and true IoU of the masks rated best."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def single_point(
    model: ManyMaskModel,
    dataset: Dataset,
    *,
    sizes: Mapping[str, tuple[float, float]] = SIZES,
    batch: int = 16,
) -> SinglePointScores:
    """Click every true object where it is deepest, and compare the masks with it.

    Parameters
    ----------
    model
        Gives several masks a click.
    dataset
        Of pictures of the model's size.
    sizes
        Least area in pixels, and that from which on an object is larger, by name.
    batch
        Clicks decoded at once. A picture is encoded once.

    Returns
    -------
    SinglePointScores

    Raises
    ------
    InputError
        A picture has not the model's size.
    ModelError
        The model gives one mask a click only.
    """
    rows = [row for example in examples(dataset) for row in _rate(model, example, batch)]
    areas, predicted, top1, oracle = np.array(rows, float).reshape(-1, 4).T
    return SinglePointScores(
        n_objects=len(rows),
        top1=mean(top1),
        oracle=mean(oracle),
        top1_by_size=by_size(top1, areas, sizes),
        oracle_by_size=by_size(oracle, areas, sizes),
        rank_correlation=spearman(predicted, top1),
    )


def deepest_point(mask: np.ndarray) -> tuple[float, float]:
    """Find the middle of the pixel farthest from the outside, x, y; the picture's edge is outside.

    Examples
    --------
    >>> deepest_point(np.ones((3, 5), bool))
    (1.5, 1.5)
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), mask.shape)
    return float(col) + 0.5, float(row) + 0.5


def _rate(
    model: ManyMaskModel, example: Example, batch: int
) -> list[tuple[int, float, float, float]]:
    """Area, predicted IoU, IoU of the mask rated best and of the best one, for each object."""
    shape = example.ignore.shape
    truths = [cutout.paste(shape) for cutout in example.cutouts]
    if not truths:
        return []
    points = np.array([deepest_point(truth) for truth in truths])
    rows = []
    for part, logits, scores in decode_clicks(
        model, encode_picture(model, example.pixels), points, batch
    ):
        for truth, masks, rated in zip(truths[part], logits > 0, scores, strict=True):
            ious = [pixel_scores(mask, truth, example.ignore).iou for mask in masks]
            best = int(rated.argmax())
            rows.append((int(truth.sum()), float(rated[best]), ious[best], max(ious)))
    return rows
