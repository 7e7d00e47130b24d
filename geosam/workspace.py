"""Where a run writes: the final names, checked before the start, and the folder of unfinished work."""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from geosam.errors import DiskFullError, GeosamError, GeosamWarning, OutputError
from geosam.journal import settle_journal
from geosam.resume import STATE

SUFFIXES = {
    "outlines": (".gpkg",),
    "mask": (".tif", ".tiff"),
    "probability": (".tif", ".tiff"),
    "quicklook": (".png",),
    "coarse": (".tif", ".tiff"),
    "prompts": (".gpkg",),
    "labels": (".tif", ".tiff"),
    "coco": (".json",),
}
"""The endings that each output may have. The first is that of its unfinished file."""
_PUBLISHING = "publishing.json"
_EARLY = frozenset({"faults", Path(STATE).with_suffix(".unfinished").name})
"""What may be in a folder of unfinished work before that says what it belongs to."""
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
    labels: Path | None = None
    """COG of segment numbers."""
    coco: Path | None = None
    """COCO JSON of segments."""

    def named(self) -> dict[str, Path]:
        """Return those that are wanted."""
        return {name: path for name, path in vars(self).items() if path is not None}


def check_targets(
    targets: Targets, inputs: Sequence[str], overwrite: bool, partial: Path | None = None
) -> None:
    """Check that every final name can be written, before anything is.

    Parameters
    ----------
    targets
        The final names.
    inputs
        Files that are read.
    overwrite
        Whether what is there may be replaced.
    partial
        Unfinished work that is gone on with: what it had moved to a final name already may be
        replaced too.

    Raises
    ------
    OutputError
        If a name has a wrong ending, its folder is missing or not writable, it is an input, it is
        there already and `overwrite` is False, another program has it open, or two are the same.
    """
    taken = {Path(path).resolve() for path in inputs}
    own = _published(partial) if partial else set()
    for name, path in targets.named().items():
        if path.suffix.lower() not in SUFFIXES[name]:
            raise OutputError(f"Output {path}: {name} must end in {' or '.join(SUFFIXES[name])}.")
        if path.resolve() in taken:
            raise OutputError(
                f"Output {path} is an input or another output too. Choose another name."
            )
        taken.add(path.resolve())
        check_writable(path, overwrite or str(path.resolve()) in own)
        if path.suffix.lower() == ".gpkg":
            settle_journal(path.resolve())


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


def unfinished(output: Path) -> Path:
    """Return the folder of unfinished work of an output."""
    return output.with_name(output.name + ".partial")


def check_resume(output: Path) -> None:
    """Check that there is unfinished work to go on with.

    Raises
    ------
    OutputError
        If there is none, or nothing says what it belongs to.
    """
    folder = unfinished(output)
    if folder.is_dir():
        if not (folder / STATE).exists() and any(e.name not in _EARLY for e in folder.iterdir()):
            raise OutputError(
                f"{folder} cannot be gone on with: {STATE} is missing, which says what its blocks belong "
                "to. Use --overwrite to start anew."
            )
        return
    if output.exists():
        raise OutputError(
            f"{output} is finished: there is nothing to resume. Use --overwrite to make it anew."
        )
    raise OutputError(
        f"There is nothing to resume: {unfinished(output)} does not exist. Leave --resume out to start."
    )


@contextmanager
def partial_folder(output: Path, overwrite: bool, resume: bool | None = None) -> Iterator[Path]:
    """Make or find the folder of unfinished work beside an output, and remove it at the end.

    An error removes it too, unless finished blocks are in it, or the disk is full.

    Parameters
    ----------
    output
        The final name.
    overwrite
        Whether to start anew where unfinished work is there.
    resume
        Whether to go on with it; None where nobody can.

    Raises
    ------
    OutputError
        If it is there already and neither is asked for, or the disk is full.
    """
    folder = unfinished(output)
    _make_folder(folder, overwrite, resume)
    try:
        yield folder
    except BaseException as error:
        stays = _has_blocks(folder)
        again = "--resume goes on" if stays else "--overwrite starts anew"
        again = f"The unfinished work stays in {folder}; the same command with {again}."
        if _about_writing(error) and disk_is_full(error, folder):
            raise DiskFullError(
                f"The disk is full while writing {output}. Free some space. {again}"
            ) from error
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise OutputError(
                f"A file is larger than the disk or your account allows (ulimit -f) while writing "
                f"{output}. Raise the limit. {again}"
            ) from error
        if not stays:
            with suppress(OSError):
                _remove(folder)
        elif isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(again) from error
        else:
            warnings.warn(again, GeosamWarning, stacklevel=2)
        raise
    _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder of unfinished work: once begun, nobody takes what is left of it for such a folder."""
    gone = folder.with_name(f"{folder.name}.removed")
    if gone.exists():  # of a removal that was interrupted
        shutil.rmtree(gone)
    folder.rename(gone)
    shutil.rmtree(gone)


def _make_folder(folder: Path, overwrite: bool, resume: bool | None) -> None:
    if folder.exists() and not resume:
        if not overwrite:
            go_on = "" if resume is None else "Use --resume to go on with it, or "
            start = "--overwrite to start anew."
            raise OutputError(
                f"{folder} holds the unfinished work of an earlier run. {go_on or 'Use '}{start}"
            )
        _remove(folder)
    folder.mkdir(exist_ok=True)


def _has_blocks(folder: Path) -> bool:
    return (folder / STATE).exists() and any(folder.rglob("*.npz"))


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
    return folder.exists() and shutil.disk_usage(folder).free < FULL_BYTES


def make_once(path: Path, of: str, make: Callable[[Path], None]) -> None:
    """Make a file of unfinished work, unless it is complete and was made of the same thing.

    Parameters
    ----------
    path
        The file. It appears when it is complete.
    of
        What it is made of, beside what the whole run belongs to.
    make
        Makes it.
    """
    note = path.with_name(f"{path.name}.made")
    if path.exists() and note.exists() and note.read_text() == of:
        return
    note.unlink(missing_ok=True)
    make(path)
    note.write_text(of)


def publish(folder: Path, targets: Targets) -> tuple[str, ...]:
    """Move finished files from the folder of unfinished work to their final names.

    The GeoPackage comes last: where it is, all is.
    """
    final = [path.resolve() for path in targets.named().values()]
    for path in final:
        if path.suffix.lower() == ".gpkg":
            settle_journal(path)
    names = [str(path) for path in final]
    (folder / _PUBLISHING).write_text(json.dumps(names))
    for name, path in reversed(targets.named().items()):
        _move(folder / f"{name}{SUFFIXES[name][0]}", path)
    return tuple(str(path) for path in targets.named().values())


def _published(folder: Path) -> set[str]:
    """Return the final names that may have been given already."""
    path = folder / _PUBLISHING
    return set(json.loads(path.read_text())) if path.exists() else set()


def _move(source: Path, target: Path) -> None:
    """Move a file, in one step where both are on one disk; else the copy has another name first.

    Where the target is a link, the file it leads to is replaced.
    """
    target = target.resolve()
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
