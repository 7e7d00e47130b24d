"""Pixel masks to rings: the corners of a mask, strip by strip, linked into closed rings.

Water is 8-connected and land 4-connected. Only corners are kept, so that a scene of any height is
traced in the memory of its outlines. Everything is in pixels: (row, col), with (0, 0) at the outer
corner of the first pixel.

A ring is followed with water on its right. At a lattice point it meets the 2x2 pixels around it,
which make a code: 1 north-west, 2 north-east, 4 south-west, 8 south-east. One or three water
pixels make a corner, and two that touch only there make two corners at one point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EAST, SOUTH, WEST, NORTH = 0, 1, 2, 3
STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], dtype=float)
"""(row, col) of one pixel in each of the four directions."""

_TURNS = {
    8: [(NORTH, EAST)],
    4: [(EAST, SOUTH)],
    1: [(SOUTH, WEST)],
    2: [(WEST, NORTH)],
    7: [(WEST, SOUTH)],
    11: [(NORTH, WEST)],
    13: [(SOUTH, EAST)],
    14: [(EAST, NORTH)],
    6: [(EAST, NORTH), (WEST, SOUTH)],
    9: [(SOUTH, EAST), (NORTH, WEST)],
}
"""Code of the 2x2 pixels to the (incoming, outgoing) directions of the rings that turn there."""


@dataclass(frozen=True)
class Corners:
    """The places where rings turn, in any order."""

    row: np.ndarray
    """(n,) int64: lattice row, 0 at the upper edge of the first pixel."""
    col: np.ndarray
    """(n,) int64: lattice column."""
    arrive: np.ndarray
    """(n,) int8: direction in which a ring comes in, with water on its right."""
    leave: np.ndarray
    """(n,) int8: direction in which it goes on."""
    contact: np.ndarray
    """(n,) bool: here two water pixels touch at a corner only."""
    region: np.ndarray
    """(n,) int64: label of the water around."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def convex(self) -> np.ndarray:
        """(n,) bool: the water takes a quarter of the surroundings, not three."""
        return (self.leave - self.arrive) % 4 == 1

    def take(self, which: np.ndarray) -> Corners:
        """Return some corners, by index or by mask."""
        return Corners(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    @staticmethod
    def concatenate(parts: list[Corners]) -> Corners:
        """Return the corners of several strips as one."""
        names = Corners.__dataclass_fields__
        return Corners(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


@dataclass(frozen=True)
class Rings:
    """Closed rings, one after the other, as runs of corners in the order they are passed."""

    corners: Corners
    """All corners, ring by ring."""
    starts: np.ndarray
    """(m + 1,) int64: where each ring starts in `corners`, and the end of the last."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def ring_of_corner(self) -> np.ndarray:
        """(n,) int64: the ring each corner belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def region(self) -> np.ndarray:
        """(m,) int64: the label of the water each ring bounds."""
        return self.corners.region[self.starts[:-1]]

    def areas_px(self) -> np.ndarray:
        """Return the signed area of each ring in pixels: shells above 0, holes below."""
        row, col = self.corners.row, self.corners.col
        following = self.following()
        # Only horizontal runs count in Green's theorem taken along rows; exact in integers.
        parts = -row * (col[following] - col)
        return np.add.reduceat(parts, self.starts[:-1]) if len(self) else np.zeros(0, np.int64)

    def take(self, which: np.ndarray) -> Rings:
        """Return the rings marked in `which`, (m,) bool."""
        lengths = np.diff(self.starts)
        kept = self.corners.take(np.repeat(which, lengths))
        return Rings(kept, np.concatenate([[0], np.cumsum(lengths[which])]))

    def following(self) -> np.ndarray:
        """Return the index of the corner after each, (n,)."""
        following = np.arange(1, len(self.corners) + 1)
        following[self.starts[1:] - 1] = self.starts[:-1]
        return following


def find_corners(water: np.ndarray, labels: np.ndarray, first_row: int) -> Corners:
    """Find the corners on all lattice rows inside a strip, its upper and lower edge left out.

    Parameters
    ----------
    water : numpy.ndarray, shape (rows, cols), bool
        Water. The lattice rows between its rows are searched, so consecutive strips share a row,
        and the mask as a whole needs a row of land above and below.
    labels : numpy.ndarray, shape (rows, cols), int
        Label of each water pixel, 0 on land.
    first_row : int
        Row of the mask at which the strip starts.

    Returns
    -------
    Corners
        In mask coordinates, row by row.
    """
    wet = np.pad(water, ((0, 0), (1, 1))).view(np.uint8)
    code = wet[:-1, :-1] | wet[:-1, 1:] << 1 | wet[1:, :-1] << 2 | wet[1:, 1:] << 3
    row, col = np.nonzero(_IS_CORNER[code])
    codes = code[row, col]
    region = _label_around(labels, row, col)
    corners = Corners(
        row + first_row + 1,
        col,
        _ARRIVE[codes, 0],
        _LEAVE[codes, 0],
        _IS_CONTACT[codes],
        region,
    )
    second = corners.take(corners.contact)
    codes = codes[corners.contact]
    again = Corners(
        second.row, second.col, _ARRIVE[codes, 1], _LEAVE[codes, 1], second.contact, second.region
    )
    return Corners.concatenate([corners, again])


def link_rings(corners: Corners) -> Rings:
    """Link corners into closed rings.

    In each lattice row the corners pair up from left to right, a horizontal run between the two
    of a pair, and in each lattice column from top to bottom.

    Parameters
    ----------
    corners : Corners
        All corners of whole regions.

    Returns
    -------
    Rings
        Ordered by the first corner of each, row by row.
    """
    order = np.lexsort((corners.leave, corners.col, corners.row))
    corners = corners.take(order)
    following = np.empty(len(corners), np.int64)
    _link(following, corners.row, 2 * corners.col + _extends(corners, EAST), corners.leave, EAST)
    _link(following, corners.col, 2 * corners.row + _extends(corners, SOUTH), corners.leave, SOUTH)
    sequence, starts = _walk(following)
    return Rings(corners.take(sequence), starts)


def _extends(corners: Corners, direction: int) -> np.ndarray:
    """Mark corners with an edge in a direction, rather than in the opposite one."""
    return (corners.leave == direction) | (corners.arrive == (direction + 2) % 4)


def _link(
    following: np.ndarray, line: np.ndarray, place: np.ndarray, leave: np.ndarray, along: int
) -> None:
    """Fill in the corner after each that leaves along a lattice line, in either direction."""
    pairs = np.lexsort((place, line)).reshape(-1, 2)
    forward = leave[pairs[:, 0]] == along
    start = np.where(forward, pairs[:, 0], pairs[:, 1])
    following[start] = np.where(forward, pairs[:, 1], pairs[:, 0])


def _walk(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow each cycle of a permutation from its smallest member; return order and starts."""
    after = following.tolist()
    seen = bytearray(len(after))
    sequence: list[int] = []
    starts = [0]
    for first in range(len(after)):
        here = first
        while not seen[here]:
            seen[here] = 1
            sequence.append(here)
            here = after[here]
        if starts[-1] != len(sequence):
            starts.append(len(sequence))
    return np.array(sequence, np.int64), np.array(starts, np.int64)


def _label_around(labels: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Return the label of the water pixels around lattice points of `find_corners`."""
    left, right = np.maximum(col - 1, 0), np.minimum(col, labels.shape[1] - 1)
    above = np.maximum(labels[row, left], labels[row, right])
    below = np.maximum(labels[row + 1, left], labels[row + 1, right])
    return np.maximum(above, below).astype(np.int64)


def _turn_table(turn: int, side: int) -> np.ndarray:
    table = np.full(16, -1, np.int8)
    for code, turns in _TURNS.items():
        table[code] = turns[min(turn, len(turns) - 1)][side]
    return table


_ARRIVE = np.stack([_turn_table(0, 0), _turn_table(1, 0)], axis=1)
_LEAVE = np.stack([_turn_table(0, 1), _turn_table(1, 1)], axis=1)
_IS_CORNER = np.isin(np.arange(16), list(_TURNS))
_IS_CONTACT = np.isin(np.arange(16), [6, 9])
