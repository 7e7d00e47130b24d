"""Finished blocks on disk: one file each, complete or not there, whenever the process is killed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from geosam.errors import OutputError

Index = tuple[int, int]
"""(row, column) of a block."""
_SUFFIX = ".npz"


@dataclass(frozen=True)
class Ledger:
    """The blocks of one raster that are finished. Any number of processes may write to it."""

    folder: Path
    """Where its files lie."""
    level: int = 1
    """How hard blocks are compressed, 0 to 9; 0 for what is read back at once."""

    def finished(self) -> set[Index]:
        """Return the blocks that are there."""
        if not self.folder.is_dir():
            return set()
        names = (entry.name for entry in os.scandir(self.folder))
        return {_index(name) for name in names if name.endswith(_SUFFIX)}

    def save(self, index: Index, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a block. It appears when it is complete.

        Raises
        ------
        OSError
            If it cannot be written; nothing is left of it then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / f"{uuid4().hex}.unfinished"
        try:
            self._write(unfinished, arrays)
            os.replace(unfinished, self._path(index))
        finally:
            unfinished.unlink(missing_ok=True)

    def load(self, index: Index, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Read a block back, or those of some arrays that it has.

        Raises
        ------
        OutputError
            If its file is damaged.
        """
        path = self._path(index)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays if names is None or name in names}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise OutputError(
                f"{path} is damaged ({error}). Delete it and use --resume, or start anew with --overwrite."
            ) from error

    def forget(self, index: Index) -> None:
        """Remove a block."""
        self._path(index).unlink(missing_ok=True)

    def _path(self, index: Index) -> Path:
        return self.folder / f"{index[0]}_{index[1]}{_SUFFIX}"

    def _write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        kind = zipfile.ZIP_DEFLATED if self.level else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", kind, compresslevel=self.level or None) as archive:
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(
                        member, np.asarray(values, order="C"), allow_pickle=False
                    )


def _index(name: str) -> Index:
    row, col = name.removesuffix(_SUFFIX).split("_")
    return int(row), int(col)
