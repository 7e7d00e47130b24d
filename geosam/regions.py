"""Regions of water counted while their mask streams past: labels, sums and corners.

Only sums per region and the corners of the mask are kept, never a label for every pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from geosam.rings import Corners, find_corners
from geosam.strips import Strip

STABLE_HIGH, STABLE_LOW = 0.73, 0.27
"""Probabilities between which the area should not change: a logit of 1 and of -1."""
_AROUND = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Regions:
    """The 8-connected regions of water of a scene, numbered from 0 in reading order."""

    corners: Corners
    """All their corners; `corners.region` is the region's number."""
    n_pixels: np.ndarray
    """(k,) int64."""
    probability: np.ndarray
    """(k,) float64: mean of its pixels, NaN for a mask."""
    predicted_iou: np.ndarray
    """(k,) float64: mean of its pixels, NaN where unknown."""
    stability: np.ndarray
    """(k,) float64: see `read_regions`, NaN for a mask."""
    truncated: np.ndarray
    """(k,) bool: touches the edge of the scene or nodata."""

    def __len__(self) -> int:
        return len(self.n_pixels)


def read_regions(strips: Iterable[Strip], threshold: float = 0.5) -> Regions:
    """Count the regions of a mask that comes strip by strip.

    The stability of a region is that of the larger region around it in which the probability is
    above 0.27: its pixels above 0.73, over its pixels above 0.27. Regions that hang together at
    0.27 share the figure.

    Parameters
    ----------
    strips : iterable of Strip
        From the first row to the last.
    threshold : float
        The one the strips were made with.

    Returns
    -------
    Regions
    """
    survey = _Survey(min(STABLE_LOW, threshold))
    for strip in strips:
        survey.add(strip)
    return survey.finish()


class _StripLabels:
    """Labels of 8-connected regions that grow from strip to strip.

    Labels of one strip follow on those of the strip before, and pairs of labels that touch across
    the seam are kept until the end.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last: np.ndarray | None = None
        self._pairs: list[np.ndarray] = []

    def add(self, mask: np.ndarray) -> np.ndarray:
        """Label a strip; (rows, cols) int32, 0 outside of the mask."""
        if not mask.any():
            self._last = None
            return np.zeros(mask.shape, np.int32)
        labels, found = ndimage.label(mask, _AROUND)
        np.add(labels, np.int32(self.count), out=labels, where=mask)
        if self._last is not None:
            self._pairs.append(_touching(self._last, labels[0]))
        self._last = labels[-1].copy()
        self.count += found
        return labels

    def merged(self) -> tuple[np.ndarray, int]:
        """Return the region of each label, (count + 1,), -1 for label 0, and their number."""
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self._pairs])
        size = self.count + 1
        graph = sparse.coo_array((np.ones(len(pairs), np.int8), pairs.T), shape=(size, size))
        _, component = connected_components(graph, directed=False)
        # Label 0 is alone in component 0; the others are numbered in reading order already.
        _, first, number = np.unique(component, return_index=True, return_inverse=True)
        order = np.argsort(np.argsort(first))
        return order[number] - 1, len(first) - 1


class _Survey:
    """What is known of the strips so far."""

    def __init__(self, low: float) -> None:
        self._low_level = low
        self._water = _StripLabels()
        self._low = _StripLabels()
        self._above: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._row = 0
        self._corners: list[Corners] = []
        self._counts: dict[str, list[np.ndarray]] = {}
        self._low_of = [np.zeros(1, np.int64)]
        self._cut: list[np.ndarray] = []

    def add(self, strip: Strip) -> None:
        """Count one strip."""
        start, low_start = self._water.count, self._low.count
        labels = self._water.add(strip.water)
        found = self._water.count - start
        inside = labels[strip.water] - start - 1
        self._count("n_pixels", inside, None, found)
        self._count_mean("probability", inside, strip.probability, strip.water, found)
        self._count_mean("predicted_iou", inside, strip.predicted_iou, strip.water, found)
        if strip.probability is not None:
            self._add_low(strip, inside, found, low_start)
        self._add_borders(strip.water, labels, strip.valid, strip.row)

    def finish(self) -> Regions:
        """Join what touches across strips."""
        if self._above is not None:
            wet, labels, _ = self._above
            self._cut.append(labels[0])
            self._corners.append(find_corners(_below(wet, False), _below(labels, 0), self._row - 1))
        region, count = self._water.merged()
        corners = Corners.concatenate(self._corners)
        return Regions(
            corners=_relabel(corners, region),
            n_pixels=self._sum("n_pixels", region, count).astype(np.int64),
            probability=self._mean("probability", region, count),
            predicted_iou=self._mean("predicted_iou", region, count),
            stability=self._stability(region, count),
            truncated=_mark(np.concatenate(self._cut), region, count),
        )

    def _count(self, name: str, inside: np.ndarray, weights: np.ndarray | None, found: int) -> None:
        sums = np.bincount(inside, weights, minlength=found)
        self._counts.setdefault(name, []).append(sums)

    def _count_mean(
        self, name: str, inside: np.ndarray, values: np.ndarray | None, wet: np.ndarray, found: int
    ) -> None:
        chosen = values[wet] if values is not None else np.full(len(inside), np.nan, np.float32)
        known = np.isfinite(chosen)
        self._count(name, inside, np.where(known, chosen, 0.0), found)
        self._count(f"{name}_known", inside, known, found)

    def _add_low(self, strip: Strip, inside: np.ndarray, found: int, start: int) -> None:
        """Count the regions above the low probability, and which of them holds which water."""
        assert strip.probability is not None
        low = strip.probability > self._low_level
        labels = self._low.add(low)
        levels, within = strip.probability[low], labels[low] - start - 1
        n_low = self._low.count - start
        self._count("low", within, levels > STABLE_LOW, n_low)
        self._count("high", within, levels > STABLE_HIGH, n_low)
        low_of = np.zeros(found, np.int64)
        low_of[inside] = labels[strip.water]
        self._low_of.append(low_of)

    def _add_borders(
        self, wet: np.ndarray, labels: np.ndarray, valid: np.ndarray, row: int
    ) -> None:
        """Find corners and cuts between the last row of the strip before and the end of this."""
        if self._above is None:
            self._cut.append(labels[0].copy())
            above = np.zeros_like(wet[:1]), np.zeros_like(labels[:1]), np.ones_like(valid[:1])
        else:
            above = self._above
        # Copies of the last rows, or the whole strip would be kept.
        self._above = wet[-1:].copy(), labels[-1:].copy(), valid[-1:].copy()
        self._row = row + len(wet)
        if not (wet.any() or above[0].any()):
            return
        wet, labels, valid = (
            np.concatenate(pair) for pair in zip(above, (wet, labels, valid), strict=True)
        )
        self._corners.append(find_corners(wet, labels, row - 1))
        touched = [labels[:, 0], labels[:, -1], *_beside(labels, ~valid)]
        # Few are left of them, and views would keep the whole strip.
        self._cut += [np.unique(some[some > 0]) for some in touched]

    def _sum(self, name: str, region: np.ndarray, count: int) -> np.ndarray:
        parts = np.concatenate([np.zeros(0), *self._counts.get(name, [])])
        return np.bincount(region[1:], parts, minlength=count)

    def _mean(self, name: str, region: np.ndarray, count: int) -> np.ndarray:
        known = self._sum(f"{name}_known", region, count)
        return _ratio(self._sum(name, region, count), known)

    def _stability(self, region: np.ndarray, count: int) -> np.ndarray:
        if self._low.count == 0:
            return np.full(count, np.nan)
        low_region, n_low = self._low.merged()
        share = _ratio(self._sum("high", low_region, n_low), self._sum("low", low_region, n_low))
        stability = np.full(count, np.nan)
        stability[region[1:]] = share[low_region[np.concatenate(self._low_of)[1:]]]
        return stability


def _touching(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the pairs of labels that touch across a seam, corners included; (n, 2)."""
    pairs = [
        np.stack([above[first], below[second]], axis=1)
        for first, second in (
            (slice(None), slice(None)),
            (slice(1, None), slice(None, -1)),
            (slice(None, -1), slice(1, None)),
        )
    ]
    stacked = np.concatenate(pairs)
    return np.unique(stacked[(stacked > 0).all(axis=1)], axis=0)


def _beside(labels: np.ndarray, missing: np.ndarray) -> list[np.ndarray]:
    """Return the labels of pixels with nodata beside, above or below them."""
    if not missing.any():
        return []
    return [
        labels[:, 1:][missing[:, :-1]],
        labels[:, :-1][missing[:, 1:]],
        labels[1:][missing[:-1]],
        labels[:-1][missing[1:]],
    ]


def _below(last: np.ndarray, value: float) -> np.ndarray:
    """Add the row of land under the scene."""
    return np.concatenate([last, np.full_like(last, value)])


def _relabel(corners: Corners, region: np.ndarray) -> Corners:
    fields = {name: getattr(corners, name) for name in corners.__dataclass_fields__}
    return Corners(**{**fields, "region": region[corners.region]})


def _mark(labels: np.ndarray, region: np.ndarray, count: int) -> np.ndarray:
    marked = np.zeros(count, bool)
    marked[region[np.unique(labels[labels > 0])]] = True
    return marked


def _ratio(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
