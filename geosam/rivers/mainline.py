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
    """Find the way along which most water lies.

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
        two ends the way is the one of least length over width, so that it keeps to wide
        channels; of all pairs of ends it is the one with most water along it. Ends are the
        exits, or all ends where there are fewer than two exits. In a ring without ends it is the
        channel with most water.
    """
    candidates = exits if len(exits) > 1 else np.concatenate([exits, ends])
    best = _widest(graph, np.unique(candidates))
    if len(best) < 2:
        area = np.where(graph.gap, 0, graph.length * graph.width)
        return [(int(area.argmax()), True)] if len(area) else []
    between = _cheapest(graph)
    size = int(max(graph.start.max(), graph.end.max())) + 1
    cost = np.array([graph.length[e] / graph.width[e] for e in between.values()])
    pairs = np.array(list(between))
    matrix = sparse.coo_array((np.maximum(cost, 1e-12), tuple(pairs.T)), (size, size)).tocsr()
    distance, before = dijkstra(matrix, directed=False, indices=best, return_predecessors=True)
    water = [_water(d, b, between, graph)[best] for d, b in zip(distance, before, strict=True)]
    source, target = np.unravel_index(np.argmax(water), (len(best), len(best)))
    return _way(before[source], int(best[target]), between, graph)


def _widest(graph: Graph, candidates: np.ndarray) -> np.ndarray:
    widest = np.zeros(int(max(graph.start.max(), graph.end.max())) + 1)
    for nodes in (graph.start, graph.end):
        np.maximum.at(widest, nodes, np.where(graph.gap, 0, graph.width))
    order = np.argsort(-widest[candidates], kind="stable")
    return candidates[order[:_CANDIDATES]]


def _cheapest(graph: Graph) -> dict[tuple[int, int], int]:
    """Return the channel to take between two nodes; of several the shortest for its width."""
    found: dict[tuple[int, int], int] = {}
    for e in np.argsort(-graph.length / graph.width, kind="stable").tolist():
        pair = int(graph.start[e]), int(graph.end[e])
        if pair[0] != pair[1]:
            found[min(pair), max(pair)] = e
    return found


def _water(
    distance: np.ndarray, before: np.ndarray, between: dict[tuple[int, int], int], graph: Graph
) -> np.ndarray:
    """Return the area of water on the way to each node, from its predecessors."""
    area = np.zeros(len(distance))
    for node in np.argsort(distance, kind="stable").tolist():
        last = int(before[node])
        if last >= 0:
            edge = between[min(last, node), max(last, node)]
            water = 0.0 if graph.gap[edge] else graph.length[edge] * graph.width[edge]
            area[node] = area[last] + water
    return area


def _way(
    before: np.ndarray, node: int, between: dict[tuple[int, int], int], graph: Graph
) -> list[tuple[int, bool]]:
    way = []
    while before[node] >= 0:
        last = int(before[node])
        edge = between[min(last, node), max(last, node)]
        way.append((edge, bool(graph.start[edge] == last)))
        node = last
    return way[::-1]
