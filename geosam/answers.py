"""What the groups of a mosaic said, kept from the moment it is known until every neighbour has it.

An answer is kept in nine pieces, one for each group whose block it reaches, so that a block reads what
it needs and no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from geosam.ledger import Index, Ledger
from geosam.masks import TileMask
from geosam.mosaic import Answer, settle
from geosam.tiles import TileGroup
from geosam.types import Window

_LOGITS, _SKIPPED = "logits", "skipped"
"""What is kept of an answer's planes: the first two, where they are not zero, and the third, which holds nothing
but 0 and 1. Pieces that are zero throughout are not written."""
_CORNERS = "corners"
"""(9, 2) row and column, in the part that they were cut from, where the pieces of the first two begin."""
_KEPT = tuple(field.name for field in fields(TileMask) if field.name != "logits")
"""What is kept of a tile."""
_SIDES: tuple[Index, ...] = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))
"""Where the groups lie that an answer reaches, row by row."""


@dataclass(frozen=True)
class Answers:
    """The answers of the groups of one mosaic."""

    folder: Path
    """Where they lie."""

    @property
    def _planes(self) -> Ledger:
        return Ledger(self.folder / "planes", level=0)

    @property
    def _tiles(self) -> Ledger:
        return Ledger(self.folder / "tiles")

    def finished(self) -> set[Index]:
        """Return the groups whose answers are there."""
        # The planes of a group are dropped early, and a block may have been deleted by hand since.
        return self._tiles.finished() & self._planes.finished()

    def keep(self, group: TileGroup, answer: Answer) -> None:
        """Keep the answer of a group."""
        pieces = {} if answer.planes is None else _cut(answer.planes, group)
        self._planes.save(group.index, pieces)
        # Whoever finds the tiles takes the planes for complete.
        self._tiles.save(group.index, _pack(answer.tiles))

    def blend(self, group: TileGroup, near: Sequence[Index]) -> np.ndarray | None:
        """Blend the block of a group.

        Parameters
        ----------
        group
            Its block is its core.
        near
            The groups that are there, it among them, row by row.

        Returns
        -------
        numpy.ndarray
            (height, width) float32 logits of the whole core; None where nobody said anything.
        """
        total = np.zeros((3, group.core.height, group.core.width), np.float32)
        said = False
        for index in near:
            side = (group.index[0] - index[0], group.index[1] - index[1])
            window = _moved(group, group.read, (-side[0], -side[1])).intersection(group.core)
            if window is not None:
                place = (slice(None), *window.slices(group.core))
                said |= self._add(total[place], index, side)
        return settle(total) if said else None

    def _add(self, total: np.ndarray, index: Index, side: Index) -> bool:
        """Add what a group said of the part of a block beside it that it reaches, and return whether it said
        anything.
        """
        logits, skipped = _piece(_LOGITS, side), _piece(_SKIPPED, side)
        found = self._planes.load(index, (logits, skipped, _CORNERS))
        if logits in found:
            row, col = found[_CORNERS][_SIDES.index(side)]
            _, height, width = found[logits].shape
            total[:2, row : row + height, col : col + width] += found[logits]
        if skipped in found:
            total[2] += found[skipped]
        return logits in found or skipped in found

    def drop_planes(self, row: int) -> None:
        """Remove the planes of the groups above a row: all blocks that need them are finished."""
        for index in self._planes.finished():
            if index[0] < row:
                self._planes.forget(index)

    def tiles(self, index: Index) -> list[TileMask]:
        """Return what became of the tiles of a group, without their logits."""
        return _unpack(self._tiles.load(index))


def _cut(planes: np.ndarray, group: TileGroup) -> dict[str, np.ndarray]:
    """Cut the planes of an answer into a piece for each group that they reach."""
    pieces, corners = {}, np.zeros((len(_SIDES), 2), int)
    for number, side in enumerate(_SIDES):
        window = _reached(group, side).intersection(group.read)
        if window is None:
            continue
        weighted, weights, skipped = planes[(slice(None), *window.slices(group.read))]
        rows = weights.any(axis=1)
        if rows.any():
            inside = tuple(slice(*_ends(there)) for there in (rows, weights.any(axis=0)))
            corners[number] = [part.start for part in inside]
            pieces[_piece(_LOGITS, side)] = np.stack([weighted[inside], weights[inside]])
        if skipped.any():
            pieces[_piece(_SKIPPED, side)] = skipped > 0
    return pieces | {_CORNERS: corners}


def _ends(there: np.ndarray) -> tuple[int, int]:
    """Return the first and one past the last place that is true."""
    places = np.flatnonzero(there)
    return int(places[0]), int(places[-1]) + 1


def _reached(group: TileGroup, side: Index) -> Window:
    """Return the block of the group on a side of another one."""
    return _moved(group, group.core, side)


def _moved(group: TileGroup, window: Window, side: Index) -> Window:
    """Move a window by whole groups."""
    row, col = (step * group.core.height for step in side)
    return Window(window.row + row, window.col + col, window.height, window.width)


def _piece(name: str, side: Index) -> str:
    return f"{name}_{side[0]}_{side[1]}"


def _pack(masks: Sequence[TileMask]) -> dict[str, np.ndarray]:
    rows = [{name: getattr(mask, name) for name in _KEPT} for mask in masks]
    return {"json": np.frombuffer(json.dumps(rows).encode(), np.uint8)}


def _unpack(arrays: Mapping[str, np.ndarray]) -> list[TileMask]:
    return [TileMask(**row) for row in json.loads(arrays["json"].tobytes())]
