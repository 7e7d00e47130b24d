"""Bring pixels from one grid to another of the same axes, as weighted means of valid pixels.

A coarser pixel is the area-weighted mean of what it covers, a finer one is interpolated between its
neighbours. Both are a row operator times the pixels times a column operator, whose weights depend
on where a pixel lies and not on the chunk it is read with, so that chunks show no seams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.sparse import csr_array

ALIGNED_PX = 1e-3
"""Grids whose pixels lie closer than this are one grid."""


@dataclass(frozen=True)
class AxisMap:
    """How target pixels lie on one axis of a source: target `i` starts at ``start + i * step``."""

    start: float
    """Source coordinate of the outer edge of target pixel 0, in source pixels."""
    step: float
    """Source pixels per target pixel; negative where the axes run against each other."""
    source: int
    """Number of source pixels."""
    target: int
    """Number of target pixels."""

    @property
    def offset(self) -> int | None:
        """The whole number of pixels between aligned grids of one resolution, else None."""
        end = self.start + self.step * self.target
        near = round(self.start)
        aligned = abs(self.start - near) < ALIGNED_PX and abs(end - near - self.target) < ALIGNED_PX
        return near if aligned else None

    def part(self, first: int, last: int) -> AxisMap:
        """Return the map of target pixels `first` to `last` (exclusive)."""
        return AxisMap(self.start + first * self.step, self.step, self.source, last - first)

    def inside(self) -> tuple[int, int]:
        """Return the range of target pixels that touch the source."""
        edges = np.array([0.0, self.source]) - self.start
        low, high = np.sort(edges / self.step)
        first, last = int(np.floor(low + 1e-9)), int(np.ceil(high - 1e-9))
        first, last = max(first, 0), min(last, self.target)
        return first, max(first, last)

    def reach(self) -> tuple[int, int]:
        """Return the range of source pixels that have a weight."""
        low, high = sorted((self.start, self.start + self.step * self.target))
        margin = 1 if abs(self.step) < 1 else 0
        first, last = int(np.floor(low + 1e-9)) - margin, int(np.ceil(high - 1e-9)) + margin
        return max(first, 0), min(last, self.source)

    def centres(self) -> np.ndarray:
        """Return the source coordinates of the target pixels' centres, in pixels."""
        return self.start + (np.arange(self.target) + 0.5) * self.step

    def nearest(self) -> np.ndarray:
        """Return the source pixel under each target centre, -1 outside."""
        index = np.floor(self.centres() + 1e-9).astype(np.int64)
        return np.where((index >= 0) & (index < self.source), index, -1)

    def weights(self) -> csr_array:
        """Return (target, reach) weights: areas if coarser, linear interpolation if finer."""
        rows, cols, values = self._linear() if abs(self.step) < 1 else self._areas()
        first, last = self.reach()
        keep = (cols >= first) & (cols < last) & (values > 1e-9)
        index = (rows[keep], cols[keep] - first)
        shape = (self.target, max(last - first, 0))
        return csr_array((values[keep].astype(np.float32), index), shape=shape)

    def _areas(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Share of each target pixel that each source pixel under it covers."""
        edges = self.start + np.arange(self.target + 1) * self.step
        low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
        first = np.floor(low + 1e-9).astype(np.int64)
        cols = first[:, None] + np.arange(int(np.ceil(abs(self.step))) + 1)
        overlap = np.minimum(cols + 1, high[:, None]) - np.maximum(cols, low[:, None])
        rows = np.broadcast_to(np.arange(self.target)[:, None], cols.shape)
        return rows.ravel(), cols.ravel(), overlap.ravel() / abs(self.step)

    def _linear(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distances to the two nearest source centres; the edge pixel is held at the edge."""
        centre = self.centres() - 0.5
        rows = np.flatnonzero((centre >= -0.5) & (centre < self.source - 0.5))
        held = np.clip(centre[rows], 0, self.source - 1)
        left = np.minimum(np.floor(held).astype(np.int64), max(self.source - 2, 0))
        right = held - left
        cols = np.concatenate([left, np.minimum(left + 1, self.source - 1)])
        return np.concatenate([rows, rows]), cols, np.concatenate([1 - right, right])


def overview_geobox(geobox: GeoBox, shape: tuple[int, int]) -> GeoBox:
    """Return the grid of an overview of `shape` (y, x) that covers the same ground."""
    height, width = shape
    scale = Affine.scale(geobox.shape.x / width, geobox.shape.y / height)
    return GeoBox((height, width), geobox.affine @ scale, geobox.crs)


def axis_maps(source: GeoBox, target: GeoBox) -> tuple[AxisMap, AxisMap] | None:
    """Return how the rows and columns of `target` lie on `source`.

    Returns
    -------
    tuple of AxisMap or None
        (rows, columns); None where the grids have another CRS or are turned against each other.
    """
    if source.crs != target.crs:
        return None
    between: Affine = ~source.affine @ target.affine
    size = max(target.shape)
    if max(abs(between.b), abs(between.d)) * size > ALIGNED_PX:
        return None
    rows = AxisMap(between.f, between.e, source.shape.y, target.shape.y)
    cols = AxisMap(between.c, between.a, source.shape.x, target.shape.x)
    return rows, cols


def weighted_means(
    values: np.ndarray, rows: AxisMap, cols: AxisMap
) -> tuple[np.ndarray, np.ndarray]:
    """Resample (band, y, x) float32 values, NaN where invalid, read over the maps' reach.

    Returns
    -------
    means : numpy.ndarray
        (band, rows.target, cols.target) float32 means of valid pixels, NaN where there are none.
    coverage : numpy.ndarray
        The same shape, 0 to 1: the share of each target pixel that valid pixels cover.
    """
    down, across = rows.weights(), cols.weights().T.tocsr()
    means = np.full((len(values), rows.target, cols.target), np.nan, np.float32)
    coverage = np.zeros_like(means)
    for band, pixels in enumerate(values):
        valid = np.isfinite(pixels)
        cover = (down @ valid.astype(np.float32)) @ across
        total = (down @ np.where(valid, pixels, np.float32(0))) @ across
        np.divide(total, cover, out=means[band], where=cover > 1e-6)
        coverage[band] = np.where(cover > 1e-6, np.minimum(cover, 1), 0)
    _follow_nearest(values, means, coverage, rows, cols)
    return means, coverage


def _follow_nearest(
    values: np.ndarray, means: np.ndarray, coverage: np.ndarray, rows: AxisMap, cols: AxisMap
) -> None:
    """Where the target is finer, a pixel is valid if the source pixel under its centre is."""
    if abs(rows.step) >= 1 and abs(cols.step) >= 1:
        return
    row, col = rows.nearest(), cols.nearest()
    inside = (row >= 0)[:, None] & (col >= 0)[None, :]
    row_at, col_at = row - rows.reach()[0], col - cols.reach()[0]
    under = np.isfinite(values[:, np.maximum(row_at, 0)][:, :, np.maximum(col_at, 0)])
    valid = under & inside
    means[~valid] = np.nan
    coverage[...] = valid
