"""Figures of one image, and of many: pooled, and as mean, median and quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from geosam.errors import InputError
from geosam.scores import IGNORED, BankScores, PixelScores, bank_scores, pixel_scores

DRY_SHARE = 0.01
"""Images with a smaller share of true water count by their false water, never by IoU: of next to
nothing any IoU can come."""
RATIOS = ("iou", "f1", "precision", "recall", "accuracy", "boundary_f1")
"""The figures of an image that are summarised."""


@dataclass(frozen=True)
class Evaluation:
    """Agreement of a prediction with the truth, over the pixels that both know."""

    iou: float
    """Intersection over union of the water; 1 where neither has any."""
    f1: float
    """Harmonic mean of precision and recall."""
    precision: float
    """Share of the predicted water that is water."""
    recall: float
    """Share of the true water that was found."""
    accuracy: float
    """Share of all pixels that agree."""
    boundary_f1: float
    """F1 of the banks, found within the tolerance."""
    tolerance_m: float | None
    """The tolerance in metres on the ground; None where the size of a pixel is not known."""
    tolerance_px: float
    """The same in pixels."""
    n_pixels: int
    """Pixels that count."""
    water_share_pred: float
    """Share of these that are water in the prediction."""
    water_share_truth: float
    """Share of these that are water in the truth."""
    false_water_share: float
    """Share of these that are water in the prediction only: what counts where there is none."""

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures by name, as JSON takes them."""
        return asdict(self)


@dataclass(frozen=True)
class ImageScores:
    """What was counted in one image."""

    name: str
    """Its name."""
    pixels: PixelScores
    """Its pixels."""
    banks: BankScores
    """Its banks."""
    tolerance_px: float
    """How far a bank may be off, in pixels."""
    pixel_m: float | None = None
    """Side of a pixel in metres, where it is known."""

    @property
    def is_dry(self) -> bool:
        """Whether less than 1 % of it is water in truth."""
        return self.pixels.water_share_truth < DRY_SHARE

    @property
    def figures(self) -> Evaluation:
        """The ratios of what was counted."""
        return _evaluation(
            self.pixels,
            self.banks,
            self.tolerance_px,
            None if self.pixel_m is None else self.tolerance_px * self.pixel_m,
        )


@dataclass(frozen=True)
class Spread:
    """One figure over several images; NaN where there are none."""

    mean: float
    """The mean."""
    lower_quartile: float
    """A quarter of the images has less."""
    median: float
    """Half of the images has less."""
    upper_quartile: float
    """A quarter of the images has more."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values, linearly between neighbours."""
        if not len(values):
            return cls(*(float("nan"),) * 4)
        low, middle, high = (float(q) for q in np.percentile(values, (25, 50, 75)))
        return cls(float(np.mean(values)), low, middle, high)


@dataclass(frozen=True)
class SetEvaluation:
    """Agreement over a set of images."""

    wet: dict[str, Spread]
    """By name of the figure, over the images with at least 1 % of true water."""
    n_wet: int
    """Number of these."""
    false_water_mean: float
    """Mean share of false water over the other images; NaN where there are none."""
    false_water_90th: float
    """90th percentile of the same."""
    n_dry: int
    """Number of these."""
    pooled: Evaluation
    """All pixels and banks of all images counted together, those of dry images too."""
    images: tuple[ImageScores, ...]
    """Every image with a pixel that counts."""
    unknown: tuple[str, ...]
    """Images without a pixel that both know: they count nowhere."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON takes them; a dry image has no IoU among them."""
        return {
            "wet": {"n": self.n_wet, **{name: asdict(s) for name, s in self.wet.items()}},
            "dry": {
                "n": self.n_dry,
                "false_water_mean": self.false_water_mean,
                "false_water_90th": self.false_water_90th,
            },
            "pooled": self.pooled.to_dict(),
            "images": {image.name: _row(image) for image in self.images},
            "unknown": list(self.unknown),
        }


def score_label(
    pred: np.ndarray,
    truth: np.ndarray,
    tolerance_px: float = 2,
    *,
    name: str = "",
    pixel_m: float | None = None,
) -> ImageScores:
    """Compare an answer with a label.

    Parameters
    ----------
    pred, truth : numpy.ndarray of shape (y, x), bool or uint8
        1 water, 0 land, 255 ignored.
    tolerance_px : float
        How far a bank may be off and still count as found.
    name : str
        Name of the image.
    pixel_m : float, optional
        Side of a pixel in metres.

    Returns
    -------
    ImageScores

    Raises
    ------
    InputError
        The two differ in shape, or hold other values.
    """
    if pred.shape != truth.shape:
        raise InputError(
            f"The prediction {name} has {_size(pred)} pixels and the truth {_size(truth)}: they "
            "need the same size."
        )
    for values in (pred, truth):
        _check_values(values, name)
    ignore = (pred == IGNORED) | (truth == IGNORED)
    wet, truly = pred == 1, truth == 1
    return ImageScores(
        name,
        pixel_scores(wet, truly, ignore),
        bank_scores(wet, truly, tolerance_px, ignore),
        tolerance_px,
        pixel_m,
    )


def summarise(images: Sequence[ImageScores]) -> SetEvaluation:
    """Put the figures of several images together.

    Images with less than 1 % of true water are reported by their false water alone.

    Parameters
    ----------
    images
        What was counted in each.

    Returns
    -------
    SetEvaluation

    Raises
    ------
    InputError
        None of them has a pixel that counts.
    """
    known = [image for image in images if image.pixels.n_pixels]
    if not known:
        raise InputError(
            f"None of the {len(images)} images has a pixel that both the prediction and the truth "
            "know: check that they show the same places."
        )
    wet = [image.figures for image in known if not image.is_dry]
    false = [image.pixels.false_water_share for image in known if image.is_dry]
    return SetEvaluation(
        wet={name: Spread.of([getattr(figures, name) for figures in wet]) for name in RATIOS},
        n_wet=len(wet),
        false_water_mean=Spread.of(false).mean,
        false_water_90th=float(np.percentile(false, 90)) if false else float("nan"),
        n_dry=len(false),
        pooled=_pooled(known),
        images=tuple(known),
        unknown=tuple(image.name for image in images if not image.pixels.n_pixels),
    )


def _pooled(images: Sequence[ImageScores]) -> Evaluation:
    """Count all together; the tolerances are the medians where images differ in pixel size."""
    metres = [image.figures.tolerance_m for image in images]
    placed = [m for m in metres if m is not None]
    return _evaluation(
        reduce(add, (image.pixels for image in images)),
        reduce(add, (image.banks for image in images)),
        float(np.median([image.tolerance_px for image in images])),
        float(np.median(placed)) if len(placed) == len(images) else None,
    )


def _evaluation(
    pixels: PixelScores, banks: BankScores, tolerance_px: float, tolerance_m: float | None
) -> Evaluation:
    return Evaluation(
        iou=pixels.iou,
        f1=pixels.f1,
        precision=pixels.precision,
        recall=pixels.recall,
        accuracy=pixels.accuracy,
        boundary_f1=banks.f1,
        tolerance_m=tolerance_m,
        tolerance_px=tolerance_px,
        n_pixels=pixels.n_pixels,
        water_share_pred=pixels.water_share_pred,
        water_share_truth=pixels.water_share_truth,
        false_water_share=pixels.false_water_share,
    )


def _row(image: ImageScores) -> dict[str, Any]:
    figures = image.figures.to_dict()
    if image.is_dry:
        figures |= dict.fromkeys(("iou", "f1", "precision", "recall", "boundary_f1"))
    return {"dry": image.is_dry, **figures}


def _check_values(values: np.ndarray, name: str) -> None:
    odd = (values != 0) & (values != 1) & (values != IGNORED)
    if odd.any():
        raise InputError(
            f"A mask of {name or 'an image'} holds the value {values[odd][0]}, and a mask has 0, "
            "1 and 255 for ignored only."
        )


def _size(values: np.ndarray) -> str:
    return " x ".join(str(length) for length in values.shape)
