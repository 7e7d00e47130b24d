"""What a run computes only once: rasters, blends and prompts, block by block onto disk.

Work is handed out in bands, some rows of blocks at a time, so that no graph is as large as the scene.
Every block is kept by the task that made it, and left out when the run is started again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geosam.answers import Answers
from geosam.clock import Clock
from geosam.crew import Crew
from geosam.ledger import Index, Ledger
from geosam.mosaic import Mosaic, blend_task, blended
from geosam.progress import count
from geosam.prompts.scene_prompts import ScenePrompts, from_arrays, to_arrays
from geosam.tasks import task
from geosam.tiles import TileGroup

BAND_ROWS = 4
"""Rows of blocks that are handed out together at least: what lies beside a band is looked at twice."""
BAND_BLOCKS = 128
"""Blocks that are handed out together at least, so that workers seldom wait for the last of them."""
_LABELS = {"coarse": "Coarse mask", "segment_prompts": "Prompts", "learned_wider": "Learned wide"}

Tasks = Callable[[Sequence[Index]], Sequence[Delayed]]
"""Blocks of one band -> the tasks that make them, in that order."""


class Keep(Protocol):
    """What becomes of results that later steps read more than once."""

    def raster(self, values: xr.DataArray, name: str) -> xr.DataArray:
        """Return the same (y, x), computed once, or still lazy."""

    def mosaic(self, mosaic: Mosaic, name: str) -> da.Array:
        """Return the blended logits (y, x), computed once, or lazy."""

    def prompts(self, drawn: Mapping[Index, Delayed], name: str) -> Mapping[Index, Delayed]:
        """Return tasks that give the prompts of each group."""


class Lazy:
    """Keeps nothing: everything stays one lazy graph."""

    def raster(self, values: xr.DataArray, name: str) -> xr.DataArray:
        """Return the values as they are."""
        return values

    def mosaic(self, mosaic: Mosaic, name: str) -> da.Array:
        """Return the blended logits, lazily."""
        return blended(mosaic)

    def prompts(self, drawn: Mapping[Index, Delayed], name: str) -> Mapping[Index, Delayed]:
        """Return the tasks that draw them."""
        return drawn


@dataclass(frozen=True)
class Durable:
    """Keeps everything in the folder of unfinished work."""

    folder: Path
    """Where."""
    crew: Crew
    """Who computes."""
    clock: Clock
    """Times the steps."""
    show: bool = False
    """Whether to show progress."""

    def raster(self, values: xr.DataArray, name: str) -> xr.DataArray:
        """Compute the chunks of a raster that are not kept yet, and return it from disk."""
        data, ledger = da.asarray(values.data), Ledger(self.folder / name)

        def tasks(indices: Sequence[Index]) -> list[Delayed]:
            first = indices[0][0]
            chunks = data.blocks[first : indices[-1][0] + 1].to_delayed()
            return [chunks[i - first, j] for i, j in indices]

        self._fill(ledger, list(np.ndindex(data.numblocks)), tasks, name)
        return values.copy(data=read_back(ledger, data.chunks, data.dtype))

    def mosaic(self, mosaic: Mosaic, name: str) -> da.Array:
        """Answer the groups that are not kept yet, blend them, and return the logits from disk."""
        # Logits are noise to a compressor: it would take a tenth of the time of a whole run.
        ledger, answers = Ledger(self.folder / name, level=0), self.answers(name)

        def tasks(indices: Sequence[Index]) -> list[Delayed]:
            found = answers.around(mosaic, indices)
            return [blend_task(mosaic, found, index) for index in indices]

        self._fill(ledger, sorted(mosaic.groups), tasks, name, answers.drop_planes)
        first = mosaic.rows[0], mosaic.cols[0]
        return read_back(ledger, mosaic.chunks, np.dtype("float32"), first)

    def prompts(self, drawn: Mapping[Index, Delayed], name: str) -> Mapping[Index, Delayed]:
        """Draw the prompts of the groups that are not kept yet, and return tasks that read them."""
        ledger = Ledger(self.folder / name)

        def tasks(indices: Sequence[Index]) -> list[Delayed]:
            return [task(to_arrays)(drawn[index]) for index in indices]

        self._fill(ledger, sorted(drawn), tasks, name)
        return {index: task(_read_prompts, ledger=ledger, index=index)() for index in drawn}

    def collect(
        self, groups: Mapping[Index, TileGroup], work: Callable[[TileGroup], Delayed], name: str
    ) -> Ledger:
        """Do what there is to do with the groups that are not done, and return what they gave.

        Parameters
        ----------
        groups
            By index.
        work
            Returns a task for a group that gives arrays by name.
        name
            What they are kept under.
        """
        ledger = Ledger(self.folder / name)

        def tasks(indices: Sequence[Index]) -> list[Delayed]:
            return [work(groups[index]) for index in indices]

        self._fill(ledger, sorted(groups), tasks, name)
        return ledger

    def answers(self, name: str) -> Answers:
        """Return what is kept of the groups of a mosaic beside its blocks."""
        return Answers(self.folder / f"{name}.answers")

    def _fill(
        self,
        ledger: Ledger,
        indices: Sequence[Index],
        tasks: Tasks,
        name: str,
        after: Callable[[int], None] = lambda row: None,
    ) -> None:
        """Make the blocks of a ledger that are not in it, band by band."""
        done = ledger.finished()
        label = _LABELS.get(name, name.capitalize())
        counter = count(label, len(indices), self.show, start=len(done))
        with self.clock.time(label.lower()), counter as bar:
            for band in bands(indices):
                if missing := [index for index in band if index not in done]:
                    made = zip(missing, tasks(missing), strict=True)
                    keep = [task(_keep_block, ledger=ledger, index=i)(block) for i, block in made]
                    self.crew.compute(keep, _keep_block.__name__, bar)
                after(band[-1][0])


def _keep_block(block: Any, ledger: Ledger, index: Index) -> None:
    ledger.save(index, block if isinstance(block, dict) else _compact(block))


def _compact(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return a block that is the same everywhere, as most of a large scene is, as one value."""
    first = values[:1, :1]
    same = np.isnan(values).all() if np.isnan(first).all() else (values == first).all()
    return {"values": first if same else values, "shape": np.array(values.shape)}


def _read_prompts(ledger: Ledger, index: Index) -> ScenePrompts:
    return from_arrays(ledger.load(index))


def bands(indices: Sequence[Index]) -> Iterator[list[Index]]:
    """Cut blocks, which are in the order of their rows, into bands of whole rows."""
    rows = [list(row) for _, row in groupby(indices, key=lambda index: index[0])]
    across = max((len(row) for row in rows), default=1)
    height = max(BAND_ROWS, -(-BAND_BLOCKS // across))
    for start in range(0, len(rows), height):
        yield list(chain.from_iterable(rows[start : start + height]))


def read_back(ledger: Ledger, chunks: Any, dtype: np.dtype, first: Index = (0, 0)) -> da.Array:
    """Return the blocks of a ledger as a lazy array.

    Parameters
    ----------
    ledger
        Holds every block.
    chunks
        Heights and widths of the blocks.
    dtype
        Of their values.
    first
        Index of the block in the top left corner.
    """
    read = partial(_read_block, ledger=ledger, first=first)
    return da.map_blocks(read, chunks=chunks, dtype=dtype, meta=np.empty((0, 0), dtype))


def _read_block(ledger: Ledger, first: Index, block_info: Any = None) -> np.ndarray:
    row, col = block_info[None]["chunk-location"]
    block = ledger.load((row + first[0], col + first[1]))
    return np.broadcast_to(block["values"], tuple(block["shape"]))
