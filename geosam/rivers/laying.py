"""Transects for all reaches: across the whole river on its main line, across the channel elsewhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import numpy as np
import shapely
from shapely.ops import substring

from geosam.rivers.course import Reach
from geosam.rivers.crossings import Banks, banks_of
from geosam.rivers.smoothing import without_repeats
from geosam.rivers.transects import ALONG, JUNCTION, Transects, lay, running_along, stacked
from geosam.rivers.water import Water

SPACING_WIDTHS = 0.25
"""Default distance of transects, in mean widths of a river's channels: near enough that the steps of
pixels along a bank average out."""


def lay_all(reaches: list[Reach], water: Water, spacing: float | None) -> Transects:
    """Lay transects across all reaches.

    Parameters
    ----------
    reaches : list of Reach
        River by river, the main line of each first and in order.
    water : Water
        Their outlines.
    spacing : float or None
        Metres between two; a quarter of the mean width of the river's channels where None.

    Returns
    -------
    Transects
        `channel` is the index of the reach. A side channel has none within the width of a
        channel that it meets; where nothing is left of it, one in its middle, flagged. One that
        reaches over the line of another channel is flagged as well.
    """
    numbered = list(enumerate(reaches))
    banks: dict[int, Banks] = {}
    found = []
    for _, of_river in groupby(numbered, key=lambda pair: pair[1].river):
        members = list(of_river)
        step = spacing or _usual_step(members, water.pixel_m)
        room = _junction_room(members)
        lines = shapely.STRtree([shapely.LineString(r.channel.line) for _, r in members])
        runs = groupby(members, key=_run)
        for (outline, main, _), run in runs:
            if outline not in banks:
                banks[outline] = banks_of(water.polygons[outline], water.edges[outline])
            laid = _lay_run(list(run), banks[outline], step, room)
            if main:
                sides = [r for _, r in members if r.outline == outline and not r.main]
                laid = _flagged(laid, running_along(laid, *_middles(sides, room)), ALONG)
            else:
                laid = _flagged(laid, _over_others(laid, lines), JUNCTION)
            found.append(laid)
    return stacked(found)


def _run(numbered: tuple[int, Reach]) -> tuple[int, bool, int]:
    """Return what reaches share whose transects are laid together: outline, and main line or not."""
    number, reach = numbered
    return reach.outline, reach.main, 0 if reach.main else number


def _flagged(laid: Transects, numbers: np.ndarray, flag: str) -> Transects:
    """Flag transects that have no flag yet."""
    chosen = np.isin(np.arange(len(laid.flag)), numbers) & (laid.flag == "")
    return replace(laid, flag=np.where(chosen, flag, laid.flag))


def _over_others(laid: Transects, lines: shapely.STRtree) -> np.ndarray:
    """Return which transects of one side channel reach over the line of another channel."""
    ways = shapely.linestrings(np.stack([laid.left, laid.right], axis=1))
    return np.flatnonzero(np.bincount(lines.query(ways, "intersects")[0], minlength=len(ways)) > 1)


def _middles(
    reaches: list[Reach], room: dict[tuple[int, int], float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return lines without their ends within junctions, and widths, of those that are longer."""
    lines, widths = [], []
    for reach in reaches:
        start, end = _ends(reach, room)
        if start + end < reach.channel.length:
            line = shapely.LineString(reach.channel.line)
            lines.append(substring(line, start, line.length - end))
            widths.append(reach.channel.width)
    return np.array(lines, dtype=object), np.array(widths)


def _ends(reach: Reach, room: dict[tuple[int, int], float]) -> tuple[float, float]:
    """Return how far the junctions at the two ends of a reach go into it."""
    start, end = (
        room.get((reach.outline, node), 0.0) for node in (reach.channel.start, reach.channel.end)
    )
    return start, end


def _usual_step(members: list[tuple[int, Reach]], pixel_m: float) -> float:
    lengths = np.array([reach.channel.length for _, reach in members])
    widths = np.array([reach.channel.width for _, reach in members])
    mean = float((lengths * widths).sum() / max(lengths.sum(), 1e-9))
    return max(SPACING_WIDTHS * mean, pixel_m)


def _junction_room(members: list[tuple[int, Reach]]) -> dict[tuple[int, int], float]:
    """Return half the width of the widest channel at each node where several meet."""
    met: dict[tuple[int, int], list[float]] = {}
    for _, reach in members:
        for node in (reach.channel.start, reach.channel.end):
            met.setdefault((reach.outline, node), []).append(reach.channel.width)
    return {node: max(widths) / 2 for node, widths in met.items() if len(widths) > 1}


def _clear(
    laid: Transects, run: list[tuple[int, Reach]], room: dict[tuple[int, int], float]
) -> np.ndarray:
    """Return which transects of a main line keep away from its junctions."""
    clear, before = np.ones(len(laid.distance), bool), 0.0
    for number, reach in run:
        start, end = _ends(reach, room)
        along = laid.distance - before
        before += reach.channel.length
        near = (along < start) | (along > reach.channel.length - end)
        clear &= ~(near & (laid.channel == number))
    return clear


def _lay_run(
    run: list[tuple[int, Reach]],
    banks: Banks,
    step: float,
    room: dict[tuple[int, int], float],
) -> Transects:
    """Lay transects along reaches that follow on each other, or along one side channel."""
    line = without_repeats(np.concatenate([reach.channel.line for _, reach in run]))
    lengths = np.array([reach.channel.length for _, reach in run])
    width = float(np.average([reach.channel.width for _, reach in run], weights=lengths))
    total, first = lengths.sum(), run[0][1]
    if first.main:
        places = np.arange(step / 2, total, step)
        number = np.searchsorted(np.cumsum(lengths)[:-1], places)
        channel = np.array([n for n, _ in run])[number]
        laid = lay(line, width, banks, places, channel, whole=True)
        clear = _clear(laid, run, room)
        return replace(laid, distance=laid.distance + first.before, clear=clear)
    start, end = _ends(first, room)
    places = np.arange(start + step / 2, total - end, step)
    inside = len(places) > 0
    places = places if inside else np.array([total / 2])
    laid = lay(line, width, banks, places, np.full(len(places), run[0][0]), whole=False)
    if not inside:
        laid.flag[:] = JUNCTION
    return laid
