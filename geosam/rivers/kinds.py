"""What an outline is: a river or standing water, told by shape, connection and company.

References
----------
.. [1] Richardson, D. C., et al. (2022). A functional definition to distinguish ponds from lakes and
   wetlands. Scientific Reports 12, 10472.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

COMPACT = 6.0
"""Outlines whose squared banks are less than this many times four areas have no line drawn:
a square has 4, a 3 by 1 rectangle 5.3, a long channel its length in widths."""
LONG = 5.0
"""Widths that a river which leaves the scene is long, at least."""
LONG_INSIDE = 10.0
"""Widths that one is long which ends inside the scene on both sides."""
LAKE_M2 = 50_000.0
"""Area above which standing water is a lake and not a pond: 5 ha, after Richardson et al. [1]_."""
OXBOW_SINUOSITY = 1.1
"""Length over straight distance of an oxbow, at least: a quarter of a circle has 1.11."""
OXBOW_WIDTHS = 8.0
"""Widths of a river within which its oxbows lie."""
OXBOW_ALIKE = 3.0
"""Times an oxbow may be wider or narrower than its river."""
POOL_WIDTHS = 1.0
"""Widths of a river within which a small water is a pool of its bed."""


@dataclass(frozen=True)
class Shapes:
    """What the kinds are told from, for n outlines, in metres of a plane."""

    polygons: np.ndarray
    """(n,) shapely.Polygon."""
    area: np.ndarray
    """(n,) float: m²."""
    length: np.ndarray
    """(n,) float: of all channels; 0 without any."""
    chord: np.ndarray
    """(n,) float: straight distance between the ends of its longest channel."""
    longest: np.ndarray
    """(n,) float: length of its longest channel."""
    leaves: np.ndarray
    """(n,) bool: whether it leaves the scene as a river does."""
    group: np.ndarray
    """(n,) int: outlines of one river across gaps."""


def is_compact(polygons: np.ndarray) -> np.ndarray:
    """Return which outlines are too compact to be rivers or oxbows, (n,)."""
    return shapely.length(polygons) ** 2 / (4 * shapely.area(polygons)) < COMPACT


def kinds(shapes: Shapes) -> np.ndarray:
    """Tell what each outline is.

    Returns
    -------
    numpy.ndarray of shape (n,), object
        ``river``: at least 5 of its widths long and leaving the scene, or at least 10, or joined
        to such a one across a gap. ``oxbow``: as long, but not leaving the scene, bent (1.1 times
        longer than straight), within 8 widths of a larger river and a third to three times as
        wide. ``pool``: less than 5 ha, not long, within one width of a river. ``lake``: not long,
        5 ha or more. ``pond``: the rest.
    """
    width = np.where(shapes.length > 0, shapes.area / np.maximum(shapes.length, 1e-9), np.nan)
    widths_long = np.where(shapes.length > 0, shapes.length / np.maximum(width, 1e-9), 0.0)
    long = np.where(shapes.leaves, widths_long >= LONG, widths_long >= LONG_INSIDE)
    bent = ~shapes.leaves & (widths_long >= LONG)
    bent &= shapes.longest >= OXBOW_SINUOSITY * shapes.chord
    out = np.where(shapes.area >= LAKE_M2, "lake", "pond").astype(object)
    rivers = long & ~bent
    oxbow = bent & _beside(shapes, rivers, width, OXBOW_WIDTHS, alike=True)
    rivers |= long & ~oxbow
    rivers |= np.isin(shapes.group, shapes.group[rivers])
    pool = ~rivers & (shapes.area < LAKE_M2) & _beside(shapes, rivers, width, POOL_WIDTHS)
    out[pool] = "pool"
    out[oxbow & ~rivers] = "oxbow"
    out[rivers] = "river"
    return out


def _beside(
    shapes: Shapes, rivers: np.ndarray, width: np.ndarray, widths: float, alike: bool = False
) -> np.ndarray:
    """Return which outlines lie within some widths of a larger river, (n,)."""
    found = np.zeros(len(shapes.polygons), bool)
    for river in np.flatnonzero(rivers):
        other = (np.arange(len(found)) != river) & (shapes.area < shapes.area[river])
        if alike:
            other &= (width < OXBOW_ALIKE * width[river]) & (width > width[river] / OXBOW_ALIKE)
        near = np.flatnonzero(other & ~found)
        shapely.prepare(shapes.polygons[river])
        reach = widths * width[river]
        found[near[shapely.dwithin(shapes.polygons[river], shapes.polygons[near], reach)]] = True
    return found
