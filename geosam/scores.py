"""Two masks compared: pixels, banks, and thin bands along the outline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geosam.errors import OptionError

IGNORED = 255
"""Value of pixels that do not count, in every label."""
_BLOCK_PX = 4_000_000
"""Pixels at a time in which distances to banks are measured."""


@dataclass(frozen=True)
class PixelScores:
    """Pixels counted against the truth.

    A ratio without any pixel under it is 1 where there is neither predicted nor true water, a
    perfect answer, and else 0.
    """

    true_water: int
    """Water in both."""
    false_water: int
    """Water in the prediction only."""
    missed_water: int
    """Water in the truth only."""
    true_land: int
    """Water in neither."""

    def __add__(self, other: PixelScores) -> PixelScores:
        return PixelScores(
            self.true_water + other.true_water,
            self.false_water + other.false_water,
            self.missed_water + other.missed_water,
            self.true_land + other.true_land,
        )

    @property
    def n_pixels(self) -> int:
        """Pixels that count."""
        return self.true_water + self.false_water + self.missed_water + self.true_land

    @property
    def iou(self) -> float:
        """Intersection over union of the water."""
        return self._ratio(self.true_water, self._union)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self._ratio(2 * self.true_water, self._union + self.true_water)

    @property
    def precision(self) -> float:
        """Share of the predicted water that is water."""
        return self._ratio(self.true_water, self.true_water + self.false_water)

    @property
    def recall(self) -> float:
        """Share of the true water that was found."""
        return self._ratio(self.true_water, self.true_water + self.missed_water)

    @property
    def accuracy(self) -> float:
        """Share of all pixels that agree."""
        return self._ratio(self.true_water + self.true_land, self.n_pixels)

    @property
    def water_share_pred(self) -> float:
        """Share of the pixels that are water in the prediction."""
        return self._share(self.true_water + self.false_water)

    @property
    def water_share_truth(self) -> float:
        """Share of the pixels that are water in the truth."""
        return self._share(self.true_water + self.missed_water)

    @property
    def false_water_share(self) -> float:
        """Share of the pixels that are water in the prediction only."""
        return self._share(self.false_water)

    @property
    def _union(self) -> int:
        return self.true_water + self.false_water + self.missed_water

    def _ratio(self, part: int, whole: int) -> float:
        return part / whole if whole else float(self._union == 0)

    def _share(self, part: int) -> float:
        return part / self.n_pixels if self.n_pixels else float("nan")


@dataclass(frozen=True)
class BankScores:
    """Bank pixels found within a tolerance of the other mask's."""

    found: int
    """Of the prediction, near one of the truth."""
    predicted: int
    """All of the prediction."""
    caught: int
    """Of the truth, near one of the prediction."""
    true: int
    """All of the truth."""

    def __add__(self, other: BankScores) -> BankScores:
        return BankScores(
            self.found + other.found,
            self.predicted + other.predicted,
            self.caught + other.caught,
            self.true + other.true,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of both shares; 1 where neither has a bank, 0 where one has none."""
        if self.predicted == 0 or self.true == 0:
            return float(self.predicted == self.true)
        precision, recall = self.found / self.predicted, self.caught / self.true
        return 2 * precision * recall / (precision + recall) if self.found and self.caught else 0.0


def pixel_scores(
    pred: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None = None
) -> PixelScores:
    """Count the pixels of two masks.

    Parameters
    ----------
    pred, truth : numpy.ndarray of one shape, bool
        Water.
    ignore : numpy.ndarray of the same shape, bool, optional
        Pixels that do not count.

    Returns
    -------
    PixelScores
    """
    code = pred.astype(np.uint8) + 2 * truth.astype(np.uint8)
    counted = code.ravel() if ignore is None else code[~ignore]
    land, false, missed, water = (int(n) for n in np.bincount(counted, minlength=4))
    return PixelScores(water, false, missed, land)


def bank_scores(
    pred: np.ndarray, truth: np.ndarray, tolerance_px: float, ignore: np.ndarray | None = None
) -> BankScores:
    """Count the bank pixels found within a tolerance of the other's.

    A bank pixel is water with land above, below or beside it; the edge of the image and of what
    is ignored makes none [1]_.

    Parameters
    ----------
    pred, truth : numpy.ndarray of shape (rows, cols), bool
        Water.
    tolerance_px : float
        Largest distance between two pixel centres that counts as found.
    ignore : numpy.ndarray of the same shape, bool, optional
        Pixels that do not count.

    Returns
    -------
    BankScores

    Raises
    ------
    OptionError
        The tolerance is negative.

    References
    ----------
    .. [1] Csurka, G., Larlus, D., Perronnin, F. (2013). What is a good evaluation measure for
       semantic segmentation? British Machine Vision Conference.
    """
    if not tolerance_px >= 0:
        raise OptionError(f"The tolerance {tolerance_px} px must not be negative. Use 2.")
    mine, theirs = banks(pred, ignore), banks(truth, ignore)
    found, predicted = _found_share(mine, theirs, tolerance_px)
    caught, true = _found_share(theirs, mine, tolerance_px)
    return BankScores(found, predicted, caught, true)


def boundary_f1(
    pred: np.ndarray, truth: np.ndarray, tolerance_px: float, ignore: np.ndarray | None = None
) -> float:
    """Score the banks: F1 of the bank pixels found within a tolerance of the other's.

    Parameters as for :func:`bank_scores`.

    Returns
    -------
    float
        Between 0 and 1; 1 where neither has a bank, 0 where one of them has none.
    """
    return bank_scores(pred, truth, tolerance_px, ignore).f1


def boundary_iou(pred: np.ndarray, truth: np.ndarray, width_px: float) -> float:
    """Compare thin bands inside the outlines: their intersection over union [1]_.

    A band is what lies in the mask and at most `width_px` from a pixel outside of it. The edge of
    the image makes none, unlike in the authors' code.

    Parameters
    ----------
    pred, truth : numpy.ndarray of shape (rows, cols), bool
        The masks.
    width_px : float
        Width of the bands; the authors take 2 % of the image's diagonal.

    Returns
    -------
    float
        Between 0 and 1; 1 where neither has an outline.

    References
    ----------
    .. [1] Cheng, B., Girshick, R., Dollár, P., Berg, A., Kirillov, A. (2021). Boundary IoU:
       Improving object-centric image segmentation evaluation. CVPR.
    """
    return pixel_scores(_band(pred, width_px), _band(truth, width_px)).iou


def banks(water: np.ndarray, ignore: np.ndarray | None = None) -> np.ndarray:
    """Mark water with land above, below or beside it, (rows, cols) bool."""
    known = True if ignore is None else ~ignore
    land = ~water & known
    beside = np.zeros_like(land)
    beside[1:] |= land[:-1]
    beside[:-1] |= land[1:]
    beside[:, 1:] |= land[:, :-1]
    beside[:, :-1] |= land[:, 1:]
    return beside & water & known


def _band(mask: np.ndarray, width_px: float) -> np.ndarray:
    if mask.all():
        return np.zeros_like(mask)
    return mask & (ndimage.distance_transform_edt(mask) <= width_px)


def _found_share(own: np.ndarray, other: np.ndarray, tolerance_px: float) -> tuple[int, int]:
    """Count the bank pixels within the tolerance of the other's, and all of them."""
    found = 0
    for core, margin in _row_blocks(own.shape, int(np.ceil(tolerance_px))):
        # Rows beyond the margin are farther than the tolerance, so blocks change nothing.
        part = other[margin]
        if part.any() and own[core].any():
            far = ndimage.distance_transform_edt(~part)[core.start - margin.start :]
            near = far[: core.stop - core.start] <= tolerance_px
            found += int((own[core] & near).sum())
    return found, int(own.sum())


def _row_blocks(shape: tuple[int, ...], margin: int) -> Iterator[tuple[slice, slice]]:
    rows = max(1, _BLOCK_PX // shape[1])
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        yield slice(start, stop), slice(max(0, start - margin), min(shape[0], stop + margin))
