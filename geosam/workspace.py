"""Where a run writes: the final names, checked before the start, and the folder of unfinished work."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geosam.errors import DiskFullError, GeosamError, OutputError

SUFFIXES = {
    "outlines": (".gpkg",),
    "mask": (".tif", ".tiff"),
    "probability": (".tif", ".tiff"),
    "quicklook": (".png",),
    "coarse": (".tif", ".tiff"),
    "prompts": (".gpkg",),
}
"""The endings that each output may have. The first is that of its unfinished file."""
FULL_BYTES = 4 << 20
"""Where writing failed and less than this is free, the disk is taken to be full: GDAL and SQLite
seldom say why they could not write."""


@dataclass(frozen=True)
class Targets:
    """The final names of a run."""

    outlines: Path | None = None
    """GeoPackage."""
    mask: Path | None = None
    """COG of the water mask."""
    probability: Path | None = None
    """COG of the probability."""
    quicklook: Path | None = None
    """PNG of the outlines over the scene."""
    coarse: Path | None = None
    """COG of the coarse mask."""
    prompts: Path | None = None
    """GeoPackage of the prompts alone."""

    def named(self) -> dict[str, Path]:
        """Return those that are wanted."""
        return {name: path for name, path in vars(self).items() if path is not None}


def check_targets(targets: Targets, inputs: Sequence[str], overwrite: bool) -> None:
    """Check that every final name can be written, before anything is.

    Raises
    ------
    OutputError
        If a name has a wrong ending, its folder is missing or not writable, it is an input, it is
        there already and `overwrite` is False, or two are the same.
    """
    taken = {Path(path).resolve() for path in inputs}
    for name, path in targets.named().items():
        if path.suffix.lower() not in SUFFIXES[name]:
            raise OutputError(f"Output {path}: {name} must end in {' or '.join(SUFFIXES[name])}.")
        if path.resolve() in taken:
            raise OutputError(
                f"Output {path} is an input or another output too. Choose another name."
            )
        taken.add(path.resolve())
        check_writable(path, overwrite)


def check_writable(path: Path, overwrite: bool) -> None:
    """Check that a file can be written.

    Raises
    ------
    OutputError
        If its folder is missing or not writable, or it is there and `overwrite` is False.
    """
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(
            f"Output folder {folder} does not exist. Make it first, or choose another."
        )
    if not os.access(folder, os.W_OK):
        raise OutputError(f"Output folder {folder} is not writable. Choose another.")
    if path.is_dir():
        raise OutputError(f"Output {path} is a folder. Name a file.")
    if path.exists() and not overwrite:
        raise OutputError(
            f"Output {path} exists already. Use --overwrite to replace it, or choose another name."
        )


@contextmanager
def partial_folder(output: Path, overwrite: bool) -> Iterator[Path]:
    """Make the folder of unfinished work beside an output and remove it at the end.

    An error removes it too, but for a full disk: then what is done stays, and is named.

    Raises
    ------
    OutputError
        If it is there already and `overwrite` is False, or the disk is full.
    """
    folder = output.with_name(output.name + ".partial")
    if folder.exists():
        if not overwrite:
            raise OutputError(
                f"{folder} holds the unfinished work of an earlier run. Use --overwrite to start anew."
            )
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield folder
    except BaseException as error:
        if _about_writing(error) and disk_is_full(error, folder):
            raise DiskFullError(
                f"The disk is full while writing {output}. The unfinished work stays in {folder}: free "
                "some space and start again with --overwrite."
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)


def _about_writing(error: BaseException) -> bool:
    """Return whether an error may come from writing: what a user asked wrongly does not."""
    mended_by_user = isinstance(error, GeosamError) and not isinstance(error, OutputError)
    return isinstance(error, Exception) and not mended_by_user


def disk_is_full(error: BaseException | None, folder: Path) -> bool:
    """Return whether an error of writing into a folder came from a full disk.

    Ask before anything unfinished is removed, which makes room.
    """
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or isinstance(error, DiskFullError):
            return True
        error = error.__cause__ or error.__context__
    return shutil.disk_usage(folder).free < FULL_BYTES


def publish(folder: Path, targets: Targets) -> tuple[str, ...]:
    """Move finished files from the folder of unfinished work to their final names."""
    for name, path in targets.named().items():
        _move(folder / f"{name}{SUFFIXES[name][0]}", path)
    return tuple(str(path) for path in targets.named().values())


def _move(source: Path, target: Path) -> None:
    """Move a file, in one step where both are on one disk; else the copy has another name first."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = target.with_name(f".{target.name}.unfinished")
        try:
            shutil.copyfile(source, copy)
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)
