"""Triangles of water -> the graph of its middle lines, before spurs are pruned.

A triangle with one side that spans the water is a tip, with two a piece of channel, with three a
junction (the chordal axis of Prasad [1]_), so that the cycles of the graph are the islands. The
line is drawn through the centres of the triangles' circles, as far from one bank as from the
other (the medial axis), or through the middles of the sides, which never leave the water.

References
----------
.. [1] Prasad, L. (1997). Morphological analysis of shapes. CNLS Newsletter 139, 1-18.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import shapely

from geosam.rivers.triangles import CORNERS, Triangles


@dataclass
class Link:
    """A stretch of channel from one node to another."""

    start: int
    """Node: a triangle, or -2 - s for the gate from site s."""
    end: int
    """Node at the other end."""
    sides: tuple
    """Sides crossed on the way, 3 t + corner of the triangle that is left, as ("run", list); or
    ("join", first, second) and ("turn", other) of such."""
    first: int
    """The first side."""
    last: int
    """The last side."""
    length: float
    """Metres from the middle of the first side to that of the last."""


@dataclass
class Axis:
    """Links between nodes. A tip and a gate have one link, a junction three."""

    triangles: Triangles
    """What the links run through."""
    links: dict[int, Link] = field(default_factory=dict)
    """Links by number."""
    at_node: dict[int, set[int]] = field(default_factory=dict)
    """Numbers of the links that begin or end at a node."""


def chordal_axis(triangles: Triangles) -> Axis:
    """Follow the triangles of one outline from node to node.

    Returns
    -------
    Axis
        With every spur, however short. A ring of water without a junction has one node.
    """
    beside = triangles.beside.tolist()
    degrees = (triangles.beside != -1).sum(axis=1)
    middles = side_middles(triangles)
    axis, seen = Axis(triangles), np.zeros(3 * len(beside), bool)
    nodes = np.flatnonzero(degrees != 2).tolist()
    for node in nodes:
        _follow_all(axis, node, beside, degrees, seen, middles)
    for t in np.flatnonzero((degrees == 2) & ~seen.reshape(-1, 3).any(axis=1)).tolist():
        if not seen[3 * t : 3 * t + 3].any():
            # Gates at both ends, or a ring.
            _follow_all(axis, _gate_of(t, beside, degrees), beside, degrees, seen, middles)
    return axis


def side_ends(triangles: Triangles, sides: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the two ends of sides, 3 t + corner each, (n, 2, 2); of all where none are named."""
    numbers = np.arange(3 * len(triangles.corners))[sides]
    ends = triangles.corners[numbers[:, None] // 3, CORNERS[numbers % 3]]
    return triangles.boundary.points[ends]


def side_middles(triangles: Triangles, sides: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the middles of sides, (n, 2)."""
    return side_ends(triangles, sides).mean(axis=1)


def side_lengths(triangles: Triangles, sides: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the lengths of sides in metres, (n,)."""
    ends = side_ends(triangles, sides)
    return np.hypot(*(ends[:, 1] - ends[:, 0]).T)


def middle_places(triangles: Triangles, polygon: shapely.Polygon) -> np.ndarray:
    """Return for each triangle the place as far from one bank as from the other, (t, 2).

    It is the centre of the circle through its corners, NaN where that is not in the water or
    hangs on the end of a gate, which is no bank.
    """
    boundary = triangles.boundary
    a, b, c = boundary.points[triangles.corners].transpose(1, 0, 2)
    b, c = b - a, c - a
    twice = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    bb, cc = (b**2).sum(axis=1), (c**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (c[:, 1] * bb - b[:, 1] * cc) / twice
        y = (b[:, 0] * cc - c[:, 0] * bb) / twice
    centres = a + np.stack([x, y], axis=1)
    gates = np.flatnonzero(boundary.gate)
    at_gate = np.isin(triangles.corners, [gates, boundary.after[gates]]).any(axis=1)
    finite = np.isfinite(centres).all(axis=1)
    good = (
        finite & ~at_gate & shapely.contains_xy(polygon, *np.where(finite[:, None], centres, 0).T)
    )
    return np.where(good[:, None], centres, np.nan)


def _gate_of(t: int, beside: list[list[int]], degrees: np.ndarray) -> int:
    """Walk along a channel without nodes to its gate; in a ring, stay."""
    came, here = -1, t
    while True:
        ways = [k for k in range(3) if beside[here][k] != -1 and beside[here][k] != came]
        onward = beside[here][ways[0]]
        if onward < -1:
            return here
        came, here = here, onward
        if here == t:
            return t


def _follow_all(
    axis: Axis,
    node: int,
    beside: list[list[int]],
    degrees: np.ndarray,
    seen: np.ndarray,
    middles: np.ndarray,
) -> None:
    for k in range(3):
        if beside[node][k] != -1 and not seen[3 * node + k]:
            _add(axis, node, *_walk(node, k, beside, degrees, seen), middles)


def _walk(
    node: int, k: int, beside: list[list[int]], degrees: np.ndarray, seen: np.ndarray
) -> tuple[list[int], int]:
    """Leave a node by a side and go on to the next node; return the sides crossed and that node."""
    sides, here = [], node
    while True:
        sides.append(3 * here + k)
        seen[3 * here + k] = True
        onward = beside[here][k]
        if onward < -1:
            return sides, onward
        back = beside[onward].index(here)
        if degrees[onward] != 2 or onward == node:
            seen[3 * onward + back] = True
            return sides, onward
        here, k = onward, next(j for j in range(3) if j != back and beside[onward][j] != -1)
        seen[3 * here + back] = True


def _add(axis: Axis, start: int, sides: list[int], end: int, middles: np.ndarray) -> None:
    length = float(np.hypot(*np.diff(middles[sides], axis=0).T).sum())
    number = len(axis.links)
    axis.links[number] = Link(start, end, ("run", sides), sides[0], sides[-1], length)
    for node in (start, end):
        axis.at_node.setdefault(node, set()).add(number)
