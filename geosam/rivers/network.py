"""One outline -> its channels: nodes, and links with their lines, widths and banks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely

from geosam.rivers.axis import (
    Axis,
    Link,
    chordal_axis,
    middle_places,
    side_lengths,
    side_middles,
)
from geosam.rivers.boundary import Boundary, sites
from geosam.rivers.pruning import prune, tip_of
from geosam.rivers.smoothing import Tip, smooth_line, without_repeats
from geosam.rivers.triangles import CORNERS, Triangles, triangulate

TIP_WIDTHS = 0.75
"""Length before the tip of a dead end, in widths, that is drawn straight on: there the line leans
into one corner of the end."""
EXIT_SITES = 4.0
"""The same before the scene's edge, in distances of sites: whole pixels end there. An oblique edge adds
the length along which one bank has ended and the other has not."""
EXIT_AHEAD = 3.0
"""Such lengths of the line before it that tell its direction: steps of pixels turn a shorter one."""

MOST_OBLIQUE = 2.0
"""Length of a gate, in widths of its river, beyond which it is the river that widens."""


@dataclass(frozen=True)
class Channel:
    """A link of the network with what is known of it, in metres of a plane."""

    start: int
    """Node where its line begins, as an index into `Network.places`."""
    end: int
    """Node where it ends."""
    line: np.ndarray
    """(n, 2) float: its smoothed middle line."""
    width: float
    """Median distance from bank to bank."""
    left: np.ndarray
    """(k, 2) float: the bank on the left of the way, vertices of the outline."""
    right: np.ndarray
    """(k, 2) float: the other bank."""

    @property
    def length(self) -> float:
        """Length of the line."""
        return float(np.hypot(*np.diff(self.line, axis=0).T).sum())


@dataclass(frozen=True)
class Network:
    """The channels of one outline."""

    places: np.ndarray
    """(n, 2) float: the nodes."""
    kinds: tuple[str, ...]
    """``junction``, ``end`` or ``edge`` (the river leaves the scene) of each node."""
    channels: tuple[Channel, ...]
    """The links."""


EMPTY = Network(np.empty((0, 2)), (), ())
"""No channels."""


def trace(polygon: shapely.Polygon, on_edge: np.ndarray, spacing: float, spur: float) -> Network:
    """Find the channels of an outline.

    Parameters
    ----------
    polygon : shapely.Polygon
        Valid, in metres, shell counter-clockwise and holes clockwise.
    on_edge : numpy.ndarray of shape (m,), bool
        For each coordinate of the polygon whether the segment to the next lies on the scene's edge.
    spacing : float
        Distance in metres of the sites along the banks: about half a pixel.
    spur : float
        Dead ends up to this many widths long are bays; see :func:`geosam.rivers.pruning.prune`.

    Returns
    -------
    Network
        Connected, with one cycle an island.
    """
    triangles = triangulate(sites(polygon, on_edge, spacing), polygon)
    if len(triangles.corners) == 0:
        return EMPTY
    shapely.prepare(polygon)
    axis = prune(chordal_axis(triangles), spur)
    frame = _Frame(axis, middle_places(triangles, polygon), spacing)
    nodes = sorted(frame.axis.at_node)
    number = {node: i for i, node in enumerate(nodes)}
    rings, links = _rings(triangles.boundary), sorted(frame.axis.links.items())
    channels = [_channel(frame, rings, link, number, polygon) for _, link in links]
    places = np.empty((len(nodes), 2))
    for channel in channels:
        # Smoothing moves the tips of dead ends.
        places[channel.start], places[channel.end] = channel.line[0], channel.line[-1]
    return Network(places, tuple(_kind(frame.axis, node) for node in nodes), tuple(channels))


@dataclass(frozen=True)
class _Frame:
    """What lines are drawn from."""

    axis: Axis
    """Links without spurs."""
    middle: np.ndarray
    """(t, 2) float: place amid the banks of each triangle, or NaN."""
    spacing: float
    """Distance of the sites along the banks."""

    def place(self, node: int) -> np.ndarray:
        """Return where a node lies."""
        triangles = self.axis.triangles
        if node < -1:
            return triangles.boundary.exits[-2 - node]
        if (triangles.beside[node] != -1).sum() == 1:
            return tip_of(triangles, node)
        if np.isfinite(self.middle[node]).all():
            return self.middle[node]
        return triangles.boundary.points[triangles.corners[node]].mean(axis=0)

    def tip(self, node: int, kind: str, width: float) -> Tip:
        """Return how the line is drawn before a node."""
        if kind != "edge":
            return Tip(TIP_WIDTHS * width, width) if kind == "end" else Tip()
        boundary, site = self.axis.triangles.boundary, -2 - node
        gate = boundary.points[[site, boundary.after[site]]]
        obliquely = min(float(np.hypot(*(gate[1] - gate[0]))) / width, MOST_OBLIQUE)
        cut = EXIT_SITES * self.spacing + width / 2 * math.sqrt(max(obliquely**2 - 1, 0.0))
        return Tip(cut, EXIT_AHEAD * cut)

    def points(self, link: Link, sides: np.ndarray, exact: bool) -> np.ndarray:
        """Return the line of a link, as far from both banks, or never out of the water."""
        middles = side_middles(self.axis.triangles, sides)
        if exact:
            centres = self.middle[sides // 3]
            middles = np.where(np.isfinite(centres), centres, middles)
            first = max(np.flatnonzero(self._within(link.start, centres)), default=-1) + 1
            last = min(np.flatnonzero(self._within(link.end, centres)), default=len(sides))
            middles = middles[first : max(first, last)]
        return np.concatenate([[self.place(link.start)], middles, [self.place(link.end)]])

    def _within(self, node: int, places: np.ndarray) -> np.ndarray:
        """Return which places lie in a junction whose own middle is not known, (n,) bool.

        Where a river parts at the scene's edge no place is as far from all its banks: the middles
        of its arms pass by each other.
        """
        if node < 0 or np.isfinite(self.middle[node]).all():
            return np.zeros(len(places), bool)
        triangles = self.axis.triangles
        corners = triangles.boundary.points[triangles.corners[node]]
        return shapely.contains_xy(shapely.Polygon(corners), *places.T)


def _kind(axis: Axis, node: int) -> str:
    if node < -1:
        return "edge"
    links = [axis.links[n] for n in axis.at_node[node]]
    degree = sum(2 if link.start == link.end else 1 for link in links)
    return "end" if degree == 1 else "junction"


def _channel(
    frame: _Frame, rings: _Rings, link: Link, number: dict[int, int], polygon: shapely.Polygon
) -> Channel:
    triangles = frame.axis.triangles
    sides, forward = _in_order(link.sides)
    width = float(np.median(side_lengths(triangles, sides)))
    kinds = (_kind(frame.axis, link.start), _kind(frame.axis, link.end))
    tips = (frame.tip(link.start, kinds[0], width), frame.tip(link.end, kinds[1], width))
    line = smooth_line(frame.points(link, sides, True), width, polygon, tips)
    if line is None:
        line = without_repeats(frame.points(link, sides, False))
    left, right = _bank_sites(triangles, sides, forward)
    banks = [_along(rings, left, True), _along(rings, right, False)]
    return Channel(number[link.start], number[link.end], line, width, *banks)


def _in_order(tree: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Lay out the sides of a link in order, and whether each is crossed as it is numbered."""
    sides: list[int] = []
    forward: list[bool] = []
    stack = [(tree, True)]
    while stack:
        (kind, *parts), ahead = stack.pop()
        if kind == "run":
            sides += parts[0] if ahead else parts[0][::-1]
            forward += [ahead] * len(parts[0])
        elif kind == "turn":
            stack.append((parts[0], not ahead))
        else:
            stack += [(part, ahead) for part in (parts[::-1] if ahead else parts)]
    return np.array(sides, dtype=np.int64), np.array(forward, dtype=bool)


def _bank_sites(
    triangles: Triangles, sides: np.ndarray, forward: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the site on the left and on the right of every side that is crossed."""
    t, corner = sides // 3, sides % 3
    right, left = (triangles.corners[t, CORNERS[corner, i]] for i in (0, 1))
    return np.where(forward, left, right), np.where(forward, right, left)


@dataclass(frozen=True)
class _Rings:
    """Where each site lies on its ring, so that a bank can be followed."""

    boundary: Boundary
    """The sites."""
    ring: np.ndarray
    """(n,) int: the ring of each site."""
    order: np.ndarray
    """(n,) int: all sites, ring by ring, in their order."""
    place: np.ndarray
    """(n,) int: place of each site in `order`."""
    starts: np.ndarray
    """(r + 1,) int: where each ring begins in `order`."""

    def between(self, first: int, last: int) -> np.ndarray:
        """Return the sites from one to another along their ring, without the first.

        Where they lie on two rings, which meet there, the last alone.
        """
        if self.ring[first] != self.ring[last]:
            return np.array([last])
        start, end = self.starts[self.ring[first]], self.starts[self.ring[first] + 1]
        count = (self.place[last] - self.place[first]) % (end - start)
        steps = self.place[first] - start + 1 + np.arange(count)
        return self.order[start + steps % (end - start)]


def _rings(boundary: Boundary) -> _Rings:
    after, seen = boundary.after.tolist(), np.zeros(len(boundary.points), bool)
    order: list[int] = []
    starts = [0]
    for site in range(len(after)):
        here = site
        while not seen[here]:
            seen[here] = True
            order.append(here)
            here = after[here]
        if len(order) > starts[-1]:
            starts.append(len(order))
    place = np.empty(len(after), np.int64)
    place[order] = np.arange(len(order))
    ring = np.searchsorted(starts, place, side="right") - 1
    return _Rings(boundary, ring, np.array(order), place, np.array(starts))


def _along(rings: _Rings, at: np.ndarray, left: bool) -> np.ndarray:
    """Follow the outline through sites of one bank, with the bays between them, (k, 2)."""
    # Water lies on the left of a ring's own way: the left bank is followed against it.
    at = at[np.diff(at, prepend=-1) != 0]
    way = at[::-1] if left else at
    pieces = [rings.between(a, b) for a, b in pairwise(way.tolist())]
    path = np.concatenate([way[:1], *pieces])
    keep = rings.boundary.vertex[path]
    keep[[0, -1]] = True
    points = rings.boundary.points[path[keep]]
    return points[::-1] if left else points
