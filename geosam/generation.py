"""Masks of everything in a picture: clicks on a grid, and what of their masks is sure and new.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from geosam.boxes import suppress
from geosam.cutouts import Cutout, cut_out
from geosam.decoding import decode_clicks, encode_picture
from geosam.errors import OptionError
from geosam.types import ManyMaskModel


@dataclass(frozen=True)
class GenerationRules:
    """Where to click, and which masks stay. Defaults are the paper's."""

    clicks_per_side: int = 32
    """Clicks along each side of the picture; their square in all."""
    min_predicted_iou: float = 0.88
    """A mask goes unless the model rates it above this."""
    min_stability: float = 0.95
    """A mask goes if it is less stable than this."""
    stability_offset: float = 1.0
    """Logits by which the threshold is moved up and down to see how stable a mask is."""
    max_overlap: float = 0.7
    """Of masks whose boxes have a higher IoU than this only the best rated stays."""
    max_share: float = 1.0
    """A mask goes if it covers more of the picture than this; the paper has 0.95."""
    batch: int = 16
    """Clicks that are decoded at once."""

    def __post_init__(self) -> None:
        if self.clicks_per_side < 1 or self.batch < 1:
            raise OptionError(
                f"{self.clicks_per_side} clicks a side in batches of {self.batch}: both must be at "
                "least 1. Use 32 and 16."
            )


@dataclass(frozen=True)
class GeneratedMask:
    """One mask, and what the model thinks of it."""

    cutout: Cutout
    """The mask."""
    predicted_iou: float
    """The model's own estimate."""
    stability: float
    """IoU of the masks at a higher and at a lower threshold."""
    click: tuple[float, float]
    """x, y of the click that gave it, in pixels from the outer corner of the first."""

    @property
    def confidence(self) -> float:
        """Mean of predicted IoU and stability: the order of proposals in the paper."""
        return (self.predicted_iou + self.stability) / 2


def generate_masks(
    model: ManyMaskModel,
    pixels: np.ndarray,
    rules: GenerationRules | None = None,
    valid: np.ndarray | None = None,
) -> list[GeneratedMask]:
    """Find masks of everything in one picture.

    Parameters
    ----------
    model
        Gives several masks a click.
    pixels : (3, size, size) float32
        0 to 1, nodata 0.5; of the model's size.
    rules
        Where to click, and which masks stay.
    valid : (size, size) bool, optional
        False where nodata: there is neither click nor mask.

    Returns
    -------
    list of GeneratedMask
        Best predicted IoU first.

    Raises
    ------
    InputError
        The picture has not the model's size.
    ModelError
        The model gives one mask a click only.
    """
    rules = rules or GenerationRules()
    points = click_grid(rules.clicks_per_side, model.size)
    if valid is not None:
        rows, cols = points[:, 1].astype(int), points[:, 0].astype(int)
        points = points[valid[rows, cols]]
    features = encode_picture(model, pixels)
    found: list[GeneratedMask] = []
    for part, logits, scores in decode_clicks(model, features, points, rules.batch):
        found += _sure(points[part], logits, scores, rules, valid)
    if not found:
        return []
    kept = suppress(
        np.array([mask.cutout.box for mask in found]),
        np.array([mask.predicted_iou for mask in found]),
        rules.max_overlap,
    )
    return [found[i] for i in kept]


def click_grid(per_side: int, size: int) -> np.ndarray:
    """Lay clicks in the middles of equal squares, row by row: (n, 2) of x, y in pixels.

    Examples
    --------
    >>> click_grid(2, 8).tolist()
    [[2.0, 2.0], [6.0, 2.0], [2.0, 6.0], [6.0, 6.0]]
    """
    middles = (np.arange(per_side) + 0.5) / per_side * size
    y, x = np.meshgrid(middles, middles, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def stability(logits: np.ndarray, offset: float = 1.0) -> np.ndarray:
    """Compute how little masks depend on their threshold, (..., y, x) -> (...).

    The pixels above `offset` over those above minus `offset`: the IoU of the two masks. A mask
    that is empty at both has 0.

    Examples
    --------
    >>> stability(np.array([[[2.0, 0.5, -0.5, -2.0]]])).tolist()
    [0.3333333333333333]
    """
    high = (logits > offset).sum(axis=(-2, -1))
    low = (logits > -offset).sum(axis=(-2, -1))
    return np.divide(high, low, out=np.zeros(high.shape), where=low > 0)


def _sure(
    points: np.ndarray,
    logits: np.ndarray,
    scores: np.ndarray,
    rules: GenerationRules,
    valid: np.ndarray | None,
) -> Iterator[GeneratedMask]:
    """Keep the masks of some clicks that are rated well, stable, and neither empty nor all."""
    stable = stability(logits, rules.stability_offset)
    sure = (scores > rules.min_predicted_iou) & (stable >= rules.min_stability)
    most = rules.max_share * logits.shape[-1] * logits.shape[-2]
    for i, m in np.argwhere(sure):
        mask = logits[i, m] > 0
        cutout = cut_out(mask if valid is None else mask & valid)
        if cutout is not None and cutout.area <= most:
            click = float(points[i, 0]), float(points[i, 1])
            yield GeneratedMask(cutout, float(scores[i, m]), float(stable[i, m]), click)
