"""How well a prediction agrees with the truth: by pixels, and along the banks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from geosam.errors import InputError, OptionError
from geosam.ground import resolution_m
from geosam.overlay import IGNORED, on_one_grid

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
    def _union(self) -> int:
        return self.true_water + self.false_water + self.missed_water

    def _ratio(self, part: int, whole: int) -> float:
        return part / whole if whole else float(self._union == 0)


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
    tolerance_m: float
    """The tolerance in metres on the ground."""
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

    def to_dict(self) -> dict[str, float | int]:
        """Return the figures by name, as JSON takes them."""
        return asdict(self)


def evaluate(
    pred: Any,
    truth: Any,
    *,
    tolerance_m: float | None = None,
    tolerance_px: float = 2,
    threshold: float = 0.5,
) -> Evaluation:
    """Compare a prediction with the truth.

    Each may be a raster (path or DataArray: a mask or a probability) or polygons (path or
    GeoDataFrame; of a GeoPackage the layer `outlines`, or else the first). Rasters of different
    grids are compared on the truth's, to which the prediction is brought by nearest neighbour.
    Polygons are burnt into the grid of the other one, a pixel being water where its centre is; two
    sets of polygons into a grid of 4096 pixels along the longer side of what they cover together,
    in the truth's CRS, or in its UTM zone if that is in degrees.

    Parameters
    ----------
    pred, truth : path, xarray.DataArray of shape (y, x), or geopandas.GeoDataFrame
        In any CRS. Nodata of either is ignored; what polygons do not cover is land.
    tolerance_m : float, optional
        How far, in metres, a bank may be off and still count as found.
    tolerance_px : float
        The same in pixels, where `tolerance_m` is left out.
    threshold : float
        Probability above which a pixel is water.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        One of them cannot be read or has no CRS, or they share no place.
    OptionError
        The tolerance is negative.

    Examples
    --------
    >>> evaluate("mask.tif", "truth.geojson", tolerance_m=5).iou  # doctest: +SKIP
    0.93
    """
    predicted, true, geobox = on_one_grid(pred, truth, threshold)
    pixel_m = float(np.mean(resolution_m(geobox)))
    tolerance_px = tolerance_px if tolerance_m is None else tolerance_m / pixel_m
    ignore = (predicted == IGNORED) | (true == IGNORED)
    if ignore.all():
        raise InputError(
            "The prediction and the truth share no pixel that both know: check that they show the "
            "same place."
        )
    wet, truly = predicted == 1, true == 1
    scores = pixel_scores(wet, truly, ignore)
    return _evaluation(scores, boundary_f1(wet, truly, tolerance_px, ignore), tolerance_px, pixel_m)


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


def boundary_f1(
    pred: np.ndarray, truth: np.ndarray, tolerance_px: float, ignore: np.ndarray | None = None
) -> float:
    """Score the banks: F1 of the bank pixels found within a tolerance of the other's.

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
    float
        Between 0 and 1; 1 where neither has a bank, 0 where one of them has none.

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
    ignore = np.zeros(pred.shape, bool) if ignore is None else ignore
    found, n_pred = _found_share(_banks(pred, ignore), _banks(truth, ignore), tolerance_px)
    caught, n_truth = _found_share(_banks(truth, ignore), _banks(pred, ignore), tolerance_px)
    if n_pred == 0 or n_truth == 0:
        return float(n_pred == n_truth)
    precision, recall = found / n_pred, caught / n_truth
    return 2 * precision * recall / (precision + recall) if found and caught else 0.0


def _evaluation(
    scores: PixelScores, boundary: float, tolerance_px: float, pixel_m: float
) -> Evaluation:
    n_pixels = scores.n_pixels
    return Evaluation(
        iou=scores.iou,
        f1=scores.f1,
        precision=scores.precision,
        recall=scores.recall,
        accuracy=scores.accuracy,
        boundary_f1=boundary,
        tolerance_m=tolerance_px * pixel_m,
        tolerance_px=tolerance_px,
        n_pixels=n_pixels,
        water_share_pred=(scores.true_water + scores.false_water) / n_pixels,
        water_share_truth=(scores.true_water + scores.missed_water) / n_pixels,
        false_water_share=scores.false_water / n_pixels,
    )


def _banks(water: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """Mark water with land beside it."""
    land = ~water & ~ignore
    beside = np.zeros_like(land)
    beside[1:] |= land[:-1]
    beside[:-1] |= land[1:]
    beside[:, 1:] |= land[:, :-1]
    beside[:, :-1] |= land[:, 1:]
    return beside & water & ~ignore


def _found_share(banks: np.ndarray, other: np.ndarray, tolerance_px: float) -> tuple[int, int]:
    """Count the bank pixels within the tolerance of the other's, and all of them."""
    found = 0
    for core, margin in _row_blocks(banks.shape, int(np.ceil(tolerance_px))):
        # Rows beyond the margin are farther than the tolerance, so blocks change nothing.
        part = other[margin]
        if part.any() and banks[core].any():
            far = ndimage.distance_transform_edt(~part)[core.start - margin.start :]
            near = far[: core.stop - core.start] <= tolerance_px
            found += int((banks[core] & near).sum())
    return found, int(banks.sum())


def _row_blocks(shape: tuple[int, ...], margin: int) -> Iterator[tuple[slice, slice]]:
    rows = max(1, _BLOCK_PX // shape[1])
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        yield slice(start, stop), slice(max(0, start - margin), min(shape[0], stop + margin))
