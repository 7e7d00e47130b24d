"""Edges of masks, moved to where colours part.

A network whose masks are coarser than its input leaves their edges a pixel beside those of the object,
and by another part of a pixel in the next tile. Near the edge every pixel is compared with what lies
inside and outside close by: the region energy of Lankton and Tannenbaum 2008, Localizing
region-based active contours, https://doi.org/10.1109/TIP.2008.2004611, in one step, in units of the
variance that both sides have.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geosam.cutouts import Cutout, cut_out
from geosam.types import Window

AROUND_PX = 5
"""Pixels around a pixel from which the colours of both sides are taken."""
EDGE_PX = 2
"""Pixels within which a pixel counts to the edge, where its contrast is measured."""
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
    window, depth, likelier = _look(mask, pixels, reach, valid)
    near = (abs(depth) <= reach) & valid[window.slices()]
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
        Standard deviations between the colours inside and outside, as the pixels within two of the edge
        say it in the median; infinite where it has no edge against anything with data.
    """
    window, depth, likelier = _look(mask, pixels, EDGE_PX + 1, valid)
    near = (abs(depth) <= EDGE_PX) & valid[window.slices()] & (likelier != 0)
    if not near.any():
        return float("inf")
    return float(np.sqrt(2 * max(np.median((likelier * np.sign(depth))[near]), 0.0)))


def _look(
    mask: Cutout, pixels: np.ndarray, reach: int, valid: np.ndarray
) -> tuple[Window, np.ndarray, np.ndarray]:
    """Return the surroundings of a mask, the depth of their pixels in it, and what colours say."""
    window = _grown(mask.window, reach + AROUND_PX, valid.shape)
    inside = np.zeros((window.height, window.width), bool)
    inside[mask.window.slices(window)] = mask.mask
    depth = np.where(inside, np.inf, -np.inf)
    if not inside.all():
        depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    weight = np.where(valid[window.slices()], np.clip(depth, -reach, reach), 0)
    return window, depth, _likelier_inside(pixels[(..., *window.slices())], weight)


def _likelier_inside(colours: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the logarithm of how much likelier each colour is inside than outside, (y, x).

    Inside `weight` is positive, outside negative; pixels at the edge weigh little, since some of them are
    on the wrong side.
    """
    sides = [_side(colours, np.clip(sign * weight, 0, None)) for sign in (1, -1)]
    (mean_in, var_in, n_in), (mean_out, var_out, n_out) = sides
    variance = np.maximum((var_in + var_out) / 2, LEAST_VARIANCE)
    further = ((colours - mean_out) ** 2).mean(axis=0) - ((colours - mean_in) ** 2).mean(axis=0)
    return np.where((n_in > 0) & (n_out > 0), further / (2 * variance), 0.0)


def _side(colours: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean colours (3, y, x), their variance and the weight of one side around each pixel."""
    total = _sum(weight)
    safe = np.maximum(total, 1e-6)
    mean = np.stack([_sum(band * weight) for band in colours]) / safe
    square = _sum((colours**2).mean(axis=0) * weight) / safe
    return mean, np.maximum(square - (mean**2).mean(axis=0), 0), np.where(total > 1e-3, total, 0)


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
