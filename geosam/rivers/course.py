"""The reaches of rivers in order: the main line first, every line drawn the way the river flows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree

from geosam.options import FLOWS
from geosam.rivers.mainline import Graph, main_line
from geosam.rivers.network import Channel, Network
from geosam.rivers.smoothing import distance_along

COMPASS = {
    name: np.array([np.sin(turn), np.cos(turn)])
    for name, turn in zip(FLOWS, np.radians(45) * np.arange(8), strict=True)
}
"""Directions a river may flow to, as unit vectors."""

GAP_SHARE = 1 / 3
"""Width of a gap beside the usual channel of its river: the main line crosses one where the way by
water has nine times its resistance."""


@dataclass(frozen=True)
class Reach:
    """A channel with its place in a river."""

    river: int
    """The river's number."""
    outline: int
    """The outline it lies in, as an index."""
    channel: Channel
    """Its line and banks, drawn the way the river flows."""
    main: bool
    """Whether the main line runs through it."""
    before: float
    """Metres along the main line before it; 0 for a side channel."""


def reaches(
    networks: list[Network],
    rivers: np.ndarray,
    wanted: np.ndarray,
    join_gap: float,
    flow: str | None,
) -> list[Reach]:
    """Put the channels of outlines in order.

    Parameters
    ----------
    networks : list of Network
        One for each of n outlines.
    rivers : numpy.ndarray of shape (n,), int
        The river of each.
    wanted : numpy.ndarray of shape (n,), bool
        Outlines that are rivers.
    join_gap : float
        Metres that the main line may cross without water.
    flow : str or None
        A key of `COMPASS`.

    Returns
    -------
    list of Reach
        River by river; of each the main line in order, then the other channels.
    """
    found: list[Reach] = []
    for river in np.unique(rivers[wanted]).tolist():
        members = np.flatnonzero(wanted & (rivers == river) & [bool(n.channels) for n in networks])
        if len(members):
            found += _reaches_of(river, members.tolist(), networks, join_gap, flow)
    return found


def _reaches_of(
    river: int, members: list[int], networks: list[Network], join_gap: float, flow: str | None
) -> list[Reach]:
    pool = [(outline, channel) for outline in members for channel in networks[outline].channels]
    graph, kinds = _graph(members, networks, join_gap)
    exits, ends = (np.flatnonzero(kinds == kind) for kind in ("edge", "end"))
    way = _downstream(main_line(graph, exits, ends), graph, flow)
    main, before = [], 0.0
    for e, forward in way:
        if not graph.gap[e]:
            outline, channel = pool[e]
            oriented = channel if forward else turned(channel)
            main.append(Reach(river, outline, oriented, True, before))
        before += float(graph.length[e])
    on_main = {e for e, _ in way}
    side = [
        Reach(river, outline, channel, False, 0.0)
        for e, (outline, channel) in enumerate(pool)
        if e not in on_main
    ]
    return main + _along_main(side, main)


def turned(channel: Channel) -> Channel:
    """Return a channel with its line drawn the other way."""
    return replace(
        channel,
        start=channel.end,
        end=channel.start,
        line=channel.line[::-1],
        left=channel.right[::-1],
        right=channel.left[::-1],
    )


def _graph(
    members: list[int], networks: list[Network], join_gap: float
) -> tuple[Graph, np.ndarray]:
    """Return channels and gaps with nodes counted across outlines, and the kinds of these."""
    sizes = [len(networks[outline].places) for outline in members]
    offsets = np.cumsum([0, *sizes])
    places = np.concatenate([networks[outline].places for outline in members])
    kinds = np.array([kind for outline in members for kind in networks[outline].kinds])
    rows = [
        (c.start + offset, c.end + offset, c.length, c.width, False)
        for outline, offset in zip(members, offsets, strict=False)
        for c in networks[outline].channels
    ]
    usual = float(np.median([row[3] for row in rows]))
    narrow = GAP_SHARE * usual
    owner = np.repeat(np.arange(len(members)), sizes)
    rows += [(a, b, d, narrow, True) for a, b, d in _gaps(places, kinds, owner, join_gap + usual)]
    start, end, length, width, gap = (np.array(column) for column in zip(*rows, strict=True))
    return Graph(places, start, end, length, np.maximum(width, 1e-6), gap), kinds


def _gaps(
    places: np.ndarray, kinds: np.ndarray, owner: np.ndarray, reach: float
) -> list[tuple[int, int, float]]:
    """Return pairs of ends of two outlines that lie near each other, and their distance."""
    ends = np.flatnonzero(kinds == "end")
    if len(np.unique(owner)) < 2 or len(ends) < 2:
        return []
    pairs = ends[KDTree(places[ends]).query_pairs(reach, output_type="ndarray")].reshape(-1, 2)
    pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
    distance = np.hypot(*(places[pairs[:, 0]] - places[pairs[:, 1]]).T)
    return [(int(a), int(b), float(d)) for (a, b), d in zip(pairs, distance, strict=True)]


def _downstream(
    way: list[tuple[int, bool]], graph: Graph, flow: str | None
) -> list[tuple[int, bool]]:
    """Turn a way so that it goes where the river flows, or from west to east or north to south."""
    (first, forward), (last, onward) = way[0], way[-1]
    begin = graph.start[first] if forward else graph.end[first]
    end = graph.end[last] if onward else graph.start[last]
    across = graph.places[end] - graph.places[begin]
    if flow is None:
        along = across[0] if abs(across[0]) >= abs(across[1]) else -across[1]
    else:
        along = across @ COMPASS[flow]
    return way if along >= 0 else [(e, not forward) for e, forward in way[::-1]]


def _along_main(side: list[Reach], main: list[Reach]) -> list[Reach]:
    """Draw side channels from where they leave the main line, or lie further up beside it."""
    if not side or not main:
        return side
    points = np.concatenate([reach.channel.line for reach in main])
    along = np.concatenate([reach.before + distance_along(reach.channel.line) for reach in main])
    ends = np.array([reach.channel.line[[0, -1]] for reach in side])
    _, nearest = KDTree(points).query(ends.reshape(-1, 2))
    first, last = along[nearest].reshape(-1, 2).T
    return [
        replace(reach, channel=turned(reach.channel)) if backward else reach
        for reach, backward in zip(side, first > last, strict=True)
    ]
