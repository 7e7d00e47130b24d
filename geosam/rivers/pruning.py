"""Spurs off the middle lines: what is a bay of the bank, and what a channel."""

from __future__ import annotations

import heapq

import numpy as np

from geosam.options import SPUR
from geosam.rivers.axis import Axis, Link, side_lengths, side_middles
from geosam.rivers.triangles import Triangles


def prune(axis: Axis, spur: float = SPUR) -> Axis:
    """Take away spurs, the shortest first, and join what is left on either side of them.

    Parameters
    ----------
    axis : Axis
        Changed in place.
    spur : float
        A dead end goes when its length from its mouth to its tip is at most this many times the
        wider of its mouth and the channel it leaves, both as measured at the junction. Gates are
        not dead ends, and the last link of a river stays.

    Returns
    -------
    Axis
        `axis`, with two links at no node but a ring's.
    """
    middles, tips = side_middles(axis.triangles), _tips(axis.triangles)
    widths = side_lengths(axis.triangles)
    for node in [n for n in axis.at_node if _degree(axis, n) == 2]:
        _join(axis, node, middles)
    depths = {n: _depth(link, axis, middles, tips) for n, link in axis.links.items()}
    queue = [(depth, number) for number, depth in depths.items() if np.isfinite(depth)]
    heapq.heapify(queue)
    while queue:
        depth, number = heapq.heappop(queue)
        # A number is used again by the link that it became part of, and that is longer.
        if number not in axis.links or depths[number] != depth:
            continue
        root = _root(axis, number)
        if root is None or depth > spur * _room(axis, number, root, widths):
            continue
        _remove(axis, number)
        joined = _join(axis, root, middles) if _degree(axis, root) == 2 else None
        if joined is not None:
            depths[joined] = _depth(axis.links[joined], axis, middles, tips)
            heapq.heappush(queue, (depths[joined], joined))
    return axis


def tip_of(triangles: Triangles, t: int) -> np.ndarray:
    """Return the corner of a tip that no side into the water touches, (2,)."""
    corner = int(np.flatnonzero(triangles.beside[t] != -1)[0])
    return triangles.boundary.points[triangles.corners[t, corner]]


def _tips(triangles: Triangles) -> np.ndarray:
    corner = (triangles.beside != -1).argmax(axis=1)
    return triangles.boundary.points[triangles.corners[np.arange(len(corner)), corner]]


def _degree(axis: Axis, node: int) -> int:
    links = axis.at_node[node]
    return sum(2 if axis.links[n].start == axis.links[n].end else 1 for n in links)


def _dead_end(axis: Axis, node: int) -> bool:
    return node >= 0 and _degree(axis, node) == 1


def _depth(link: Link, axis: Axis, middles: np.ndarray, tips: np.ndarray) -> float:
    """Return how far a dead end goes from its mouth, or infinity for another link."""
    ends = [_dead_end(axis, link.start), _dead_end(axis, link.end)]
    if not any(ends) or link.start == link.end:
        return np.inf
    tip, side = (link.end, link.last) if ends[1] else (link.start, link.first)
    return link.length + float(np.hypot(*(middles[side] - tips[tip])))


def _root(axis: Axis, number: int) -> int | None:
    """Return the junction that a dead end leaves, or None for another link."""
    link = axis.links[number]
    ends = [_dead_end(axis, link.start), _dead_end(axis, link.end)]
    if sum(ends) != 1:
        return None
    root = link.start if ends[1] else link.end
    return root if root >= 0 and _degree(axis, root) >= 3 else None


def _room(axis: Axis, number: int, root: int, widths: np.ndarray) -> float:
    """Return the width that a dead end must be longer than."""
    link = axis.links[number]
    side = link.first if link.start == root else link.last
    lengths = sorted(widths[3 * root : 3 * root + 3])
    mouth = widths[side]
    others = list(lengths)
    others.remove(min(others, key=lambda length: abs(length - mouth)))
    return float(max(mouth, min(others)))


def _remove(axis: Axis, number: int) -> None:
    link = axis.links.pop(number)
    for node in (link.start, link.end):
        axis.at_node[node].discard(number)
        if not axis.at_node[node]:
            del axis.at_node[node]


def _join(axis: Axis, node: int, middles: np.ndarray) -> int | None:
    """Make one link of the two at a node and return its number; None where they are a ring."""
    numbers = sorted(axis.at_node[node])
    if len(numbers) != 2:
        return None
    before, after = (axis.links[n] for n in numbers)
    before = before if before.end == node else _turned(before)
    after = after if after.start == node else _turned(after)
    gap = float(np.hypot(*(middles[before.last] - middles[after.first])))
    for n in numbers:
        _remove(axis, n)
    number = numbers[1]
    axis.links[number] = Link(
        before.start,
        after.end,
        ("join", before.sides, after.sides),
        before.first,
        after.last,
        before.length + gap + after.length,
    )
    for end in (before.start, after.end):
        axis.at_node.setdefault(end, set()).add(number)
    return number


def _turned(link: Link) -> Link:
    return Link(link.end, link.start, ("turn", link.sides), link.last, link.first, link.length)
