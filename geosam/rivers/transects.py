"""Lines across a river, bank to bank: how wide its water is there, and how far its banks are apart."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import shapely

from geosam.rivers.crossings import Banks, Crossings, cross, nearest
from geosam.rivers.smoothing import distance_along, resample, tangents

_FIRST_REACH = 2.0
"""Widths to either side that are looked at first."""
_POINTS_A_WIDTH = 8
"""Points a width of a line from which directions are taken."""
NORMAL_WIDTHS = 0.5
"""Scale, in widths, over which the direction of a line is averaged."""
CROSSES, JUNCTION, ALONG = "crosses", "junction", "along"
"""Flags: it meets others, as inside tight bends, and without it and its like none would; it lies within a
junction, of a side channel and over the line of another; it runs along another channel that joins from
the side, instead of across it."""
ALONG_SHARE = 0.1
"""Share of a transect's water that lies along another channel, at least, where it is flagged: across a
braided river, each passes some thread obliquely."""


@dataclass(frozen=True)
class Transects:
    """Transects of one outline, in metres of a plane."""

    channel: np.ndarray
    """(n,) int: the channel that each crosses."""
    distance: np.ndarray
    """(n,) float: how far along the line it was laid on."""
    centre: np.ndarray
    """(n, 2) float: where it crosses that line."""
    left: np.ndarray
    """(n, 2) float: its end on the left bank."""
    right: np.ndarray
    """(n, 2) float: its end on the right bank."""
    width: np.ndarray
    """(n,) float: water only."""
    own: np.ndarray
    """(n,) float: water of the channel it was laid on, straight across that channel."""
    n_channels: np.ndarray
    """(n,) int: pieces of water."""
    flag: np.ndarray
    """(n,) object: what is odd about it, or an empty text."""
    clear: np.ndarray
    """(n,) bool: whether it is out of the widths of other channels at the ends of its reach."""

    @property
    def span(self) -> np.ndarray:
        """Distance from end to end, (n,)."""
        return np.hypot(*(self.left - self.right).T)

    def take(self, chosen: np.ndarray) -> Transects:
        """Return some of them."""
        return Transects(*(getattr(self, f.name)[chosen] for f in fields(self)))


def lay(
    line: np.ndarray,
    width: float,
    banks: Banks,
    places: np.ndarray,
    channel: np.ndarray,
    whole: bool,
) -> Transects:
    """Lay transects across a line.

    Parameters
    ----------
    line : numpy.ndarray of shape (n, 2)
        A smooth line in the water, x, y in metres.
    width : float
        Usual width of its channel: the scale over which directions are averaged.
    banks : Banks
        The outline.
    places : numpy.ndarray of shape (k,)
        Metres along the line.
    channel : numpy.ndarray of shape (k,), int
        Channel at each place.
    whole : bool
        Whether to cross the whole river from outer bank to outer bank, islands included, with
        directions averaged over half the span; or the line's own channel alone. The width of
        that channel itself is always measured straight across it.

    Returns
    -------
    Transects
        Those that end on banks: where the scene's edge cuts the river there is no width to tell.
        Those without a flag meet no other one.
    """
    even = resample(line, width / _POINTS_A_WIDTH)
    along = distance_along(even)
    centre = np.stack([np.interp(places, along, axis) for axis in even.T], axis=1)
    found = _cut(centre, _normals(even, along, places, NORMAL_WIDTHS * width), width, banks, whole)
    if whole and len(places) and (found.n_channels > 1).any():
        first = found
        scale = np.where(found.n_channels > 1, found.span / 2, NORMAL_WIDTHS * width)
        scale = np.where(np.isfinite(scale), scale, width)
        found = _cut(centre, _normals(even, along, places, scale), width, banks, whole)
        found = replace(found.where(first.n_channels > 1, first), own=first.own)
    laid = Transects(
        channel,
        places,
        centre,
        found.left,
        found.right,
        found.width,
        found.own,
        found.n_channels,
        np.full(len(places), "", dtype=object),
        np.ones(len(places), bool),
    )
    laid = laid.take(found.on_banks)
    laid.flag[_meeting(laid)] = CROSSES
    return laid


@dataclass(frozen=True)
class _Cut:
    """Lines cut off at the banks."""

    left: np.ndarray
    right: np.ndarray
    span: np.ndarray
    width: np.ndarray
    own: np.ndarray
    n_channels: np.ndarray
    on_banks: np.ndarray

    def where(self, chosen: np.ndarray, other: _Cut) -> _Cut:
        """Return these where chosen, and the others elsewhere."""
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return _Cut(*(np.where(chosen if a.ndim == 1 else chosen[:, None], a, b) for a, b in pairs))


def _normals(
    even: np.ndarray, along: np.ndarray, places: np.ndarray, scale: float | np.ndarray
) -> np.ndarray:
    """Return unit vectors to the left of a line at some places, (k, 2)."""
    if np.ndim(scale):
        scale = np.interp(along, places, scale)
    ahead = tangents(even, scale)
    ahead = np.stack([np.interp(places, along, axis) for axis in ahead.T], axis=1)
    ahead /= np.maximum(np.hypot(*ahead.T), 1e-12)[:, None]
    return np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)


def _cut(centre: np.ndarray, normal: np.ndarray, width: float, banks: Banks, whole: bool) -> _Cut:
    crossings, limits = _limits(centre, normal, width, banks, whole)
    right, left, right_segment, left_segment = limits
    ends = np.isfinite(right) & np.isfinite(left)
    right, left = np.where(ends, right, 0.0), np.where(ends, left, 0.0)
    on_bank = ~banks.edge[right_segment] & ~banks.edge[left_segment]
    wet, pieces = _wet(crossings, right, left)
    own_right, own_left, *_ = nearest(crossings, np.ones(len(crossings.at), bool), len(centre))
    return _Cut(
        centre + left[:, None] * normal,
        centre + right[:, None] * normal,
        left - right,
        wet,
        own_left - own_right,
        pieces,
        ends & on_bank & (pieces > 0),
    )


def _limits(
    centre: np.ndarray, normal: np.ndarray, width: float, banks: Banks, whole: bool
) -> tuple[Crossings, tuple[np.ndarray, ...]]:
    """Follow lines as far as their banks; return what they meet on the way, and the banks."""
    reach = np.full(len(centre), _FIRST_REACH * width)
    while True:
        crossings = cross(centre, normal, reach, reach, banks)
        wanted = banks.shell[crossings.segment] if whole else np.ones(len(crossings.at), bool)
        limits = nearest(crossings, wanted, len(centre))
        short = ~(np.isfinite(limits[0]) & np.isfinite(limits[1])) & (reach < banks.reach)
        if not short.any():
            return crossings, limits
        reach[short] *= 2


def _wet(
    crossings: Crossings, right: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add up the water between two banks; pieces are 0 where water and land do not alternate."""
    line, at = crossings.line, crossings.at
    between = (at >= right[line]) & (at <= left[line]) & (right[line] < left[line])
    line, at = line[between], at[between]
    count = np.bincount(line, minlength=len(right))
    rank = np.arange(len(line)) - (np.cumsum(count) - count)[line]
    wet = np.bincount(line, np.where(rank % 2 == 1, at, -at), minlength=len(right))
    even = count % 2 == 0
    return np.where(even, wet, np.nan), np.where(even, count // 2, 0)


def _meeting(transects: Transects) -> np.ndarray:
    """Return transects without which no two of the others meet: those that meet most go first."""
    lines = shapely.linestrings(np.stack([transects.left, transects.right], axis=1))
    first, second = shapely.STRtree(lines).query(lines, predicate="intersects")
    first, second = first[first != second], second[first != second]
    met = np.split(second, np.searchsorted(first, np.arange(1, len(lines))))
    count = np.bincount(first, minlength=len(lines))
    gone = []
    while count.any():
        most = int(count.argmax())
        gone.append(most)
        count[met[most]] = np.maximum(count[met[most]] - 1, 0)
        count[most] = 0
    return np.array(gone, dtype=np.int64)


def running_along(transects: Transects, lines: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return which transects go into another channel and run along it.

    Parameters
    ----------
    transects : Transects
        Those of one outline.
    lines : numpy.ndarray of shape (n,)
        shapely.LineString, in metres of the same plane: middle lines of other channels, without
        their ends within junctions.
    widths : numpy.ndarray of shape (n,)
        Widths of these channels.

    Returns
    -------
    numpy.ndarray of int
        Transects that come within half a width of such a line, at less than half a right
        angle to it, and have a tenth of their water so near to it.
    """
    ways = shapely.linestrings(np.stack([transects.left, transects.right], axis=1))
    tree = shapely.STRtree(ways)
    line, number = tree.query(lines, predicate="dwithin", distance=widths / 2)
    nearest_point = shapely.get_point(shapely.shortest_line(lines[line], ways[number]), 0)
    at, half = shapely.line_locate_point(lines[line], nearest_point), widths[line] / 2
    before, after = (
        shapely.get_coordinates(shapely.line_interpolate_point(lines[line], place))
        for place in (np.maximum(at - half, 0), at + half)
    )
    ahead, across = after - before, (transects.left - transects.right)[number]
    shared = np.abs((ahead * across).sum(axis=1))
    oblique = shared > np.sqrt(0.5) * np.hypot(*ahead.T) * np.hypot(*across.T)
    line, number, half = line[oblique], number[oblique], half[oblique]
    beside = shapely.intersection(ways[number], shapely.buffer(lines[line], half))
    return np.unique(number[shapely.length(beside) > ALONG_SHARE * transects.width[number]])


def stacked(parts: list[Transects]) -> Transects:
    """Return transects of several lines as one, in their order."""
    if not parts:
        none, pairs = np.empty(0), np.empty((0, 2))
        whole = np.empty(0, np.int64)
        return Transects(
            whole, none, pairs, pairs, pairs, none, none, whole, np.empty(0, dtype=object), none > 0
        )
    return Transects(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Transects))
    )
