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
        it still leaves the scene. A river with one exit begins there, one without at any end; for
        these the shortest way through the water stands for the straight distance, so that a line
        follows a bend to its end and does not turn back. In a ring without ends it is the channel
        with most water.
    """
    candidates = exits if len(exits) > 1 else np.concatenate([exits, ends])
    best = _widest(graph, np.unique(candidates))
    if len(best) < 2:
        area = np.where(graph.gap, 0.0, graph.length * graph.width)
        return [(int(area.argmax()), True)] if len(area) else []
    ways = _ways(graph, best)
    apart = _straight(graph, best) if len(exits) > 1 else _through_water(graph, best)
    worth = apart * np.array([way.width() for way in ways])[:, best]
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
    resistance: np.ndarray
    """(n,) float: length over squared width to each node; infinite where there is no way."""
    before: np.ndarray
    """(n,) int: the node before each on its way; negative where there is none."""

    def width(self) -> np.ndarray:
        """Return the width of the way to each node, (n,): of a channel as long and resistant."""
        length = np.zeros(len(self.before))
        for node in np.argsort(self.resistance, kind="stable").tolist():
            last = int(self.before[node])
            if last >= 0:
                edge = self.between[min(last, node), max(last, node)]
                length[node] = length[last] + self.graph.length[edge]
        return np.sqrt(length / np.maximum(self.resistance, 1e-12))


def _ways(graph: Graph, sources: np.ndarray) -> list[_Ways]:
    matrix, between = _matrix(graph, graph.length / graph.width**2)
    distance, before = dijkstra(matrix, directed=False, indices=sources, return_predecessors=True)
    rows = zip(distance, before, strict=True)
    return [_Ways(graph, between, resistance, nodes) for resistance, nodes in rows]


def _straight(graph: Graph, nodes: np.ndarray) -> np.ndarray:
    """Return the straight distance between nodes, (k, k)."""
    apart = graph.places[nodes][:, None] - graph.places[nodes]
    return np.hypot(apart[..., 0], apart[..., 1])


def _through_water(graph: Graph, nodes: np.ndarray) -> np.ndarray:
    """Return the length of the shortest way between nodes, (k, k); 0 where there is none."""
    length = dijkstra(_matrix(graph, graph.length)[0], directed=False, indices=nodes)[:, nodes]
    return np.where(np.isfinite(length), length, 0.0)


def _matrix(graph: Graph, cost: np.ndarray) -> tuple[sparse.csr_array, dict[tuple[int, int], int]]:
    """Return the costs between nodes, and which channel is the cheapest there."""
    between: dict[tuple[int, int], int] = {}
    for e in np.argsort(-cost, kind="stable").tolist():
        pair = int(graph.start[e]), int(graph.end[e])
        if pair[0] != pair[1]:
            between[min(pair), max(pair)] = e
    size, pairs = len(graph.places), np.array(list(between))
    cheapest = np.maximum(cost[list(between.values())], 1e-12)
    return sparse.coo_array((cheapest, tuple(pairs.T)), (size, size)).tocsr(), between


def _widest(graph: Graph, candidates: np.ndarray) -> np.ndarray:
    widest = np.zeros(len(graph.places))
    for nodes in (graph.start, graph.end):
        np.maximum.at(widest, nodes, np.where(graph.gap, 0, graph.width))
    order = np.argsort(-widest[candidates], kind="stable")
    return candidates[order[:_CANDIDATES]]


def _way(ways: _Ways, node: int) -> list[tuple[int, bool]]:
    way = []
    while ways.before[node] >= 0:
        last = int(ways.before[node])
        edge = ways.between[min(last, node), max(last, node)]
        way.append((edge, bool(ways.graph.start[edge] == last)))
        node = last
    return way[::-1]
