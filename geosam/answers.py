"""What the groups of a mosaic said, kept from the moment it is known until every neighbour has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dask.delayed import Delayed

from geosam.ledger import Index, Ledger
from geosam.masks import TileMask
from geosam.mosaic import Answer, Mosaic
from geosam.tasks import task
from geosam.tiles import TileGroup, around

_NAMES = ("weighted", "weights", "skipped")
"""The planes of an answer. Those that are zero throughout are not written."""


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

    def around(self, mosaic: Mosaic, indices: Sequence[Index]) -> dict[Index, Delayed]:
        """Return a task for each group that some blocks need: it answers, or reads the answer."""
        # The planes of a group are dropped early, and a block may have been deleted by hand since.
        done = self._tiles.finished() & self._planes.finished()
        needed = {near for index in indices for near in around(index)} & set(mosaic.groups)
        return {index: self._task(mosaic, index, index in done) for index in sorted(needed)}

    def _task(self, mosaic: Mosaic, index: Index, is_done: bool) -> Delayed:
        group = mosaic.groups[index]
        if is_done:
            return task(_read, ledger=self._planes, group=group)()
        work = mosaic.work(group)
        return task(
            _answer_and_keep,
            function=work.function,
            index=index,
            planes=self._planes,
            tiles=self._tiles,
        )(*work.inputs)

    def drop_planes(self, row: int) -> None:
        """Remove the planes of the groups above a row: all blocks that need them are finished."""
        for index in self._planes.finished():
            if index[0] < row:
                self._planes.forget(index)

    def tiles(self, groups: Mapping[Index, TileGroup]) -> dict[Index, list[TileMask]]:
        """Return what became of the tiles of every group."""
        return {index: _unpack(self._tiles.load(index)) for index in groups}


def _answer_and_keep(
    *inputs: Any, function: Callable[..., Answer], index: Index, planes: Ledger, tiles: Ledger
) -> Answer:
    answer = function(*inputs)
    there = {n: p for n, p in zip(_NAMES, answer.planes, strict=True) if p.any()}
    planes.save(index, there)
    # Whoever finds the tiles takes the planes for complete.
    tiles.save(index, _pack(answer.tiles))
    return answer


def _read(ledger: Ledger, group: TileGroup) -> Answer:
    planes = np.zeros((len(_NAMES), group.read.height, group.read.width), np.float32)
    for name, values in ledger.load(group.index).items():
        planes[_NAMES.index(name)] = values
    return Answer(planes)


def _pack(masks: Sequence[TileMask]) -> dict[str, np.ndarray]:
    rows = [{**asdict(mask), "logits": None} for mask in masks]
    return {"json": np.frombuffer(json.dumps(rows).encode(), np.uint8)}


def _unpack(arrays: Mapping[str, np.ndarray]) -> list[TileMask]:
    return [TileMask(**row) for row in json.loads(arrays["json"].tobytes())]
