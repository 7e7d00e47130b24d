"""Finished blocks on disk: one file each, complete or not there, whenever the process is killed."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from geosam.errors import OutputError

Index = tuple[int, int]
"""(row, column) of a block."""
_SUFFIX = ".npz"
_MEMBER = ".npy"
_MAGIC = np.lib.format.magic(1, 0)
"""How every array in a file begins."""


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
        """Read a block back, or those of some arrays that it has; they cannot be written to.

        Raises
        ------
        OutputError
            If its file is damaged.
        """
        path = self._path(index)
        try:
            with zipfile.ZipFile(path) as archive:
                there = (name.removesuffix(_MEMBER) for name in archive.namelist())
                wanted = [name for name in there if names is None or name in names]
                return {name: _array(archive.read(name + _MEMBER)) for name in wanted}
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
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
                whole = np.asarray(values, order="C")
                described = np.lib.format.header_data_from_array_1_0(whole)
                with archive.open(name + _MEMBER, "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, described)
                    member.write(whole.reshape(-1).view(np.uint8).data)


def _array(content: bytes) -> np.ndarray:
    """Return the array that the content of a member stands for."""
    if not content.startswith(_MAGIC):
        raise ValueError("no array begins where one should")
    start = len(_MAGIC) + 2 + int.from_bytes(content[len(_MAGIC) : len(_MAGIC) + 2], "little")
    shape, dtype = _described(content[len(_MAGIC) : start])
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


@lru_cache(maxsize=256)
def _described(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type that a header says; most blocks of a raster have the same one."""
    shape, _, dtype = np.lib.format.read_array_header_1_0(BytesIO(header))
    return shape, dtype


def _index(name: str) -> Index:
    row, col = name.removesuffix(_SUFFIX).split("_")
    return int(row), int(col)
