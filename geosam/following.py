"""Something larger than a tile -> all of it, tile by tile, from where it meets a border.

A tile answers for what is known beside it; where its answer meets its own border, the neighbour that
owns the ground there is asked next, until nothing grows any more. No tile is asked again before an
answer, its own or one beside it, has changed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from scipy import ndimage

from geosam.tiles import TileGrid, around
from geosam.types import Tile

Index = tuple[int, int]
Respond = Callable[[Tile, np.ndarray, np.ndarray | None], np.ndarray]
"""A tile, what its neighbours say of its pixels ((size, size) float32 logits, NaN where they say
nothing) and its own answer so far -> its answer, (size, size) float32 logits."""
EIGHT = np.ones((3, 3), bool)


def follow(
    grid: TileGrid,
    start: Iterable[Index],
    respond: Respond,
    *,
    answers: Mapping[Index, np.ndarray] | None = None,
    border_px: int = 4,
    least_px: int = 8,
    most_visits: int | None = 3,
) -> dict[Index, np.ndarray]:
    """Ask tiles, and their neighbours where an answer meets a border, until it stops growing.

    Parameters
    ----------
    grid
        The tiles; neighbours must share pixels, or nothing is followed.
    start
        Tiles that are asked first.
    respond
        Answers a tile.
    answers
        What is known already, tile by tile.
    border_px
        How near to the border of a tile its answer counts as meeting it, in pixels.
    least_px
        Pixels there that the neighbour has not said itself, from which on it is asked.
    most_visits
        Times a tile is asked at most; without it as long as there is something new: an answer of its own
        or beside it that has changed since it was asked.

    Returns
    -------
    dict
        (size, size) float32 logits of every tile that was asked or known.
    """
    rows, cols = grid.index_range()
    known, visits, changes = dict(answers or {}), Counter[Index](), Counter[Index]()
    asked: dict[Index, tuple[int, ...]] = {}
    queue = deque(dict.fromkeys(start))
    while queue:
        index = queue.popleft()
        versions = tuple(changes[near] for near in around(index))
        if asked.get(index) == versions:
            # Two tiles that deny each other's water would ask each other for ever.
            continue
        asked[index] = versions
        visits[index] += 1
        tile = grid.tile(index)
        before = known.get(index)
        known[index] = respond(tile, beside(known, grid, tile), before)
        changes[index] += before is None or not np.array_equal(before, known[index])
        for near in around(index):
            inside = near[0] in rows and near[1] in cols
            often = most_visits is not None and visits[near] >= most_visits
            if near == index or near in queue or often or not inside:
                continue
            if _entering(known, grid, tile, near, border_px) >= least_px:
                queue.append(near)
    return known


def beside(answers: Mapping[Index, np.ndarray], grid: TileGrid, tile: Tile) -> np.ndarray:
    """Return what the tiles around one say of its pixels, (size, size) float32, the surest of them;
    NaN where they say nothing.
    """
    out = np.full((grid.size, grid.size), np.nan, np.float32)
    for near in around(tile.index):
        if near == tile.index or near not in answers:
            continue
        other = grid.tile(near)
        both = tile.read.intersection(other.read)
        if both is not None:
            place = both.slices(tile.read)
            out[place] = np.fmax(out[place], answers[near][both.slices(other.read)])
    return out


def connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Keep the parts of a mask, (y, x) bool, that hold a seed; corners connect."""
    labels, n = ndimage.label(mask, EIGHT)
    kept = np.zeros(n + 1, bool)
    kept[labels[seeds]] = True
    kept[0] = False
    return kept[labels]


def _entering(
    answers: Mapping[Index, np.ndarray], grid: TileGrid, tile: Tile, near: Index, border_px: int
) -> int:
    """Count the pixels at a tile's border that a neighbour owns and has not answered for."""
    other = grid.tile(near)
    owned = tile.read.intersection(other.core)
    if owned is None:
        return 0
    fresh = _at_border(answers[tile.index] > 0, border_px)[owned.slices(tile.read)]
    if near in answers:
        fresh = fresh & ~(answers[near][owned.slices(other.read)] > 0)
    return int(fresh.sum())


def _at_border(mask: np.ndarray, border_px: int) -> np.ndarray:
    edge = mask.copy()
    edge[border_px:-border_px, border_px:-border_px] = False
    return edge
