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
from geosam.mosaic import Answer, blend
from geosam.tiles import TileGroup
from geosam.types import Window

_LOGITS, _SKIPPED = "logits", "skipped"
"""What is kept of an answer's planes: the first two, as they are, and the third, which holds nothing but 0 and 1.
Pieces that are zero throughout are not written."""
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
        pieces: dict[str, np.ndarray] = {}
        for side in _SIDES:
            window = _reached(group, side).intersection(group.read)
            if window is not None and answer.planes is not None:
                rows, cols = window.slices(group.read)
                there = answer.planes[:, rows, cols]
                whole = {_LOGITS: there[:2], _SKIPPED: there[2] > 0}
                pieces |= {_piece(name, side): p for name, p in whole.items() if p.any()}
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
        windows, strips = [], []
        for index in near:
            side = (group.index[0] - index[0], group.index[1] - index[1])
            window = _moved(group, group.read, (-side[0], -side[1])).intersection(group.core)
            planes = self._read(index, side)
            if window is not None and planes is not None:
                windows.append(window)
                strips.append(planes)
        return blend(strips, group.core, windows) if strips else None

    def _read(self, index: Index, side: Index) -> np.ndarray | None:
        """Return (3, height, width) of what a group said of one beside it, None where nothing."""
        wanted = [_piece(name, side) for name in (_LOGITS, _SKIPPED)]
        found = self._planes.load(index, wanted)
        if not found:
            return None
        planes = np.zeros((3, *next(iter(found.values())).shape[-2:]), np.float32)
        planes[:2], planes[2] = (found.get(name, 0) for name in wanted)
        return planes

    def drop_planes(self, row: int) -> None:
        """Remove the planes of the groups above a row: all blocks that need them are finished."""
        for index in self._planes.finished():
            if index[0] < row:
                self._planes.forget(index)

    def tiles(self, index: Index) -> list[TileMask]:
        """Return what became of the tiles of a group, without their logits."""
        return _unpack(self._tiles.load(index))


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
