"""The main line of a river: the way through its channels from one end to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

_CANDIDATES = 64
"""Ends of a river that are tried, those of the widest channels first."""


@dataclass(frozen=True)
class Graph:
    """Channels of a river, and the gaps across which they are one."""

    places: np.ndarray
    """(n, 2) float: the nodes, x, y in metres."""
    start: np.ndarray
    """(m,) int: node where each channel or gap begins."""
    end: np.ndarray
    """(m,) int: node where it ends."""
    length: np.ndarray
    """(m,) float: metres."""
    width: np.ndarray
    """(m,) float: metres."""
    gap: np.ndarray
    """(m,) bool: whether it is a gap, without water."""


def main_line(graph: Graph, exits: np.ndarray, ends: np.ndarray) -> list[tuple[int, bool]]:
    """Find the way along which a river goes through the scene.

    Parameters
    ----------
    graph : Graph
        Channels and gaps.
    exits, ends : numpy.ndarray of int
        Nodes where the river leaves the scene, and where channels end in it.

    Returns
    -------
    list of (int, bool)
        Channels and gaps in order, and whether each is passed from its start to its end. Between
        two ends the way is the one of least length over squared width, where a discharge loses
        least head at one depth: a chute half as long as its bend is taken from 0.7 times its
        width. Of all pairs of exits it is the one whose straight distance times the width of the
        way between them is largest, so that a bend that was cut off does not hold the line where
        it still leaves the scene. A river with one exit begins there, one without at any end; of
        its ways it is the one whose water times its straight distance is most, which neither
        stops halfway nor turns back. In a ring without ends it is the channel with most water.
    """
    candidates = exits if len(exits) > 1 else np.concatenate([exits, ends])
    best = _widest(graph, np.unique(candidates))
    if len(best) < 2:
        area = _area(graph)
        return [(int(area.argmax()), True)] if len(area) else []
    ways = _ways(graph, best)
    worth = np.array([_breadth(way) if len(exits) > 1 else _water(way) for way in ways])[:, best]
    if len(exits) == 1:
        worth[~np.isin(best, exits)] = -1.0
    source, target = np.unravel_index(np.argmax(worth), worth.shape)
    return _way(ways[source], int(best[target]))


@dataclass(frozen=True)
class _Ways:
    """The ways of least resistance from one node to all."""

    graph: Graph
    """What they run through."""
    between: dict[tuple[int, int], int]
    """The channel to take between two nodes."""
    source: int
    """The node."""
    resistance: np.ndarray
    """(n,) float: length over squared width to each node; infinite where there is no way."""
    before: np.ndarray
    """(n,) int: the node before each on its way; negative where there is none."""

    @property
    def straight(self) -> np.ndarray:
        """The straight distance of each node, (n,)."""
        return np.hypot(*(self.graph.places - self.graph.places[self.source]).T)

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Add up a value of each channel on the way to each node, (n,)."""
        total = np.zeros(len(self.before))
        for node in np.argsort(self.resistance, kind="stable").tolist():
            last = int(self.before[node])
            if last >= 0:
                edge = self.between[min(last, node), max(last, node)]
                total[node] = total[last] + values[edge]
        return total


def _ways(graph: Graph, sources: np.ndarray) -> list[_Ways]:
    resistance = np.maximum(graph.length / graph.width**2, 1e-12)
    between = _cheapest(graph, resistance)
    size, pairs = len(graph.places), np.array(list(between))
    cost = resistance[list(between.values())]
    matrix = sparse.coo_array((cost, tuple(pairs.T)), (size, size)).tocsr()
    distance, before = dijkstra(matrix, directed=False, indices=sources, return_predecessors=True)
    rows = zip(sources.tolist(), distance, before, strict=True)
    return [_Ways(graph, between, source, d, b) for source, d, b in rows]


def _widest(graph: Graph, candidates: np.ndarray) -> np.ndarray:
    widest = np.zeros(len(graph.places))
    for nodes in (graph.start, graph.end):
        np.maximum.at(widest, nodes, np.where(graph.gap, 0, graph.width))
    order = np.argsort(-widest[candidates], kind="stable")
    return candidates[order[:_CANDIDATES]]


def _cheapest(graph: Graph, resistance: np.ndarray) -> dict[tuple[int, int], int]:
    """Return the channel to take between two nodes."""
    found: dict[tuple[int, int], int] = {}
    for e in np.argsort(-resistance, kind="stable").tolist():
        pair = int(graph.start[e]), int(graph.end[e])
        if pair[0] != pair[1]:
            found[min(pair), max(pair)] = e
    return found


def _area(graph: Graph) -> np.ndarray:
    return np.where(graph.gap, 0.0, graph.length * graph.width)


def _water(ways: _Ways) -> np.ndarray:
    """Return the area of water on the way to each node times the straight distance, (n,)."""
    return ways.straight * ways.summed(_area(ways.graph))


def _breadth(ways: _Ways) -> np.ndarray:
    """Return the straight distance to each node times the width of the way there, (n,)."""
    length = ways.summed(ways.graph.length)
    return ways.straight * np.sqrt(length / np.maximum(ways.resistance, 1e-12))


def _way(ways: _Ways, node: int) -> list[tuple[int, bool]]:
    way = []
    while ways.before[node] >= 0:
        last = int(ways.before[node])
        edge = ways.between[min(last, node), max(last, node)]
        way.append((edge, bool(ways.graph.start[edge] == last)))
        node = last
    return way[::-1]
