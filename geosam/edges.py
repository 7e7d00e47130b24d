"""Edges of masks, moved to where colours part.

A network whose masks are coarser than its input leaves their edges a pixel beside those of the object,
and by another part of a pixel in the next tile. Near the edge every pixel is compared with what lies
inside and outside close by: the region energy of Lankton and Tannenbaum 2008, Localizing
region-based active contours, https://doi.org/10.1109/TIP.2008.2004611, in one step, in units of the
variance that both sides have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geosam.cutouts import Cutout, cut_out
from geosam.types import Window

AROUND_PX = 5
"""Pixels around a pixel from which the colours of both sides are taken."""
EDGE_PX = 2
"""Pixels within which a pixel counts to the edge, where its contrast is measured."""
EDGE_SHARE = 0.75
"""Share of an edge that has the contrast which counts: with less of it, what shares its edge with an
object, such as half of it, would be one too."""
LEAST_VARIANCE = (1 / 255) ** 2
"""Of either side's colours: pictures of eight bits are no surer."""
_SIDE = 2 * AROUND_PX + 1


def snap(mask: Cutout, pixels: np.ndarray, reach: int, valid: np.ndarray) -> Cutout:
    """Move the edge of a mask to the edge that the picture has there.

    A pixel changes sides where the logarithm of how much likelier its colour is on the other side
    exceeds its distance from the edge in pixels: without contrast, everything stays.

    Parameters
    ----------
    mask
        In pixels of the picture.
    pixels : (3, y, x) float32
        The picture, 0 to 1.
    reach
        Pixels by which the edge moves at most.
    valid : (y, x) bool
        False where nodata: its colour says nothing, and no edge moves there.

    Returns
    -------
    Cutout
        The mask itself where nothing of it would be left.
    """
    window, depth = _depth(mask, reach + AROUND_PX, valid.shape)
    colours, known = pixels[(..., *window.slices())], valid[window.slices()]
    likelier = _likelier_inside(colours, *_both_sides(colours, depth, reach, known))
    near = (abs(depth) <= reach) & known
    found = cut_out(np.where(near, likelier + depth > 0, depth > 0))
    if found is None:
        return mask
    place = found.window
    return Cutout(
        Window(place.row + window.row, place.col + window.col, place.height, place.width),
        found.mask,
    )


def edge_contrast(mask: Cutout, pixels: np.ndarray, valid: np.ndarray) -> float:
    """Measure how far colours part at the edge of a mask.

    Parameters
    ----------
    mask, pixels, valid
        As :func:`snap` takes them.

    Returns
    -------
    float
        Standard deviations between the mean colours inside and outside close by, which three quarters of
        the pixels within two of its outer edge reach: holes are edges of something else. Infinite
        where it has no edge against anything with data.
    """
    window, depth = _depth(mask, EDGE_PX + 1 + AROUND_PX, valid.shape)
    known = valid[window.slices()]
    inside, outside = _both_sides(pixels[(..., *window.slices())], depth, EDGE_PX + 1, known)
    outer = _signed_distance(ndimage.binary_fill_holes(depth > 0))
    near = (abs(outer) <= EDGE_PX) & known & (inside.weight > 0) & (outside.weight > 0)
    if not near.any():
        return float("inf")
    apart = ((inside.mean - outside.mean) ** 2).mean(axis=0) / _variance(inside, outside)
    return float(np.sqrt(np.quantile(apart[near], 1 - EDGE_SHARE)))


@dataclass(frozen=True)
class _Side:
    """What is known of one side of an edge around each pixel."""

    mean: np.ndarray
    """(3, y, x) colours."""
    variance: np.ndarray
    """(y, x) of these, the mean of all bands."""
    weight: np.ndarray
    """(y, x), 0 where nothing is known."""


def _depth(mask: Cutout, by: int, shape: tuple[int, ...]) -> tuple[Window, np.ndarray]:
    """Return the surroundings of a mask, and how deep in it their pixels are, outside negative."""
    window = _grown(mask.window, by, shape)
    inside = np.zeros((window.height, window.width), bool)
    inside[mask.window.slices(window)] = mask.mask
    return window, _signed_distance(inside)


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    if inside.all():
        return np.full(inside.shape, np.inf)
    depth: np.ndarray = ndimage.distance_transform_edt(inside)
    return depth - ndimage.distance_transform_edt(~inside)


def _both_sides(
    colours: np.ndarray, depth: np.ndarray, reach: int, known: np.ndarray
) -> tuple[_Side, _Side]:
    """Return what is inside and outside around each pixel.

    Pixels at the edge weigh little, since some of them are on the wrong side.
    """
    weight = np.where(known, np.clip(depth, -reach, reach), 0)
    return _side(colours, np.clip(weight, 0, None)), _side(colours, np.clip(-weight, 0, None))


def _likelier_inside(colours: np.ndarray, inside: _Side, outside: _Side) -> np.ndarray:
    """Return the logarithm of how much likelier each colour is inside than outside, (y, x)."""
    further = ((colours - outside.mean) ** 2).mean(axis=0)
    further -= ((colours - inside.mean) ** 2).mean(axis=0)
    known = (inside.weight > 0) & (outside.weight > 0)
    return np.where(known, further / (2 * _variance(inside, outside)), 0.0)


def _variance(inside: _Side, outside: _Side) -> np.ndarray:
    return np.maximum((inside.variance + outside.variance) / 2, LEAST_VARIANCE)


def _side(colours: np.ndarray, weight: np.ndarray) -> _Side:
    total = _sum(weight)
    safe = np.maximum(total, 1e-6)
    mean = np.stack([_sum(band * weight) for band in colours]) / safe
    square = _sum((colours**2).mean(axis=0) * weight) / safe
    variance = np.maximum(square - (mean**2).mean(axis=0), 0)
    return _Side(mean, variance, np.where(total > 1e-3, total, 0))


def _sum(values: np.ndarray) -> np.ndarray:
    return ndimage.uniform_filter(values.astype(np.float64), _SIDE, mode="constant")


def _grown(window: Window, by: int, shape: tuple[int, ...]) -> Window:
    row, col = max(window.row - by, 0), max(window.col - by, 0)
    return Window(
        row,
        col,
        min(window.row_end + by, shape[0]) - row,
        min(window.col_end + by, shape[1]) - col,
    )
