"""Where a training writes: a folder of unfinished work that becomes the output when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from geosam.errors import OutputError
from geosam.training.fit import STATE
from geosam.training.recipe import Recipe, read_recipe

RECIPE = "recipe.toml"
EMBEDDINGS = "embeddings"
RUNS, RESULT = "runs", "result.json"
"""Of an experiment: where its trainings lie, and what tells of one that it is finished."""
_MAY_CHANGE = {("fit", "epochs"), ("fit", "patience"), ("fit", "lr"), ("fit", "cache")}
"""What a resumed training may be told otherwise."""


def check_workplace(output: Path, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """Check that a training can write to an output, before anything is read.

    Raises
    ------
    OutputError
        If the output or unfinished work is there and nothing says what to do with it, its parent
        is missing, or what is to be resumed is not there or had another recipe.
    """
    partial = unfinished(output)
    if not output.parent.is_dir():
        raise OutputError(f"Output folder {output.parent} does not exist. Make it first.")
    _check_output(output, resume, overwrite)
    if resume and not partial.exists():
        raise OutputError(
            f"There is nothing to resume: {partial} does not exist. Leave --resume out to start."
        )
    if resume:
        _check_recipe(partial, recipe)
    elif partial.exists() and not overwrite:
        raise OutputError(
            f"{partial} holds an unfinished training. Use --resume to go on, or --overwrite to start "
            "anew."
        )


def unfinished(output: Path) -> Path:
    """Return the folder of unfinished work of an output."""
    return output.with_name(output.name + ".partial")


def open_workplace(output: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Path:
    """Make or find the folder of unfinished work of an output.

    Raises
    ------
    OutputError
        As :func:`check_workplace`.
    """
    check_workplace(output, recipe, resume, overwrite)
    partial = unfinished(output)
    if partial.exists() and not resume:
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    (partial / RECIPE).write_text(recipe.to_toml())
    return partial


def _check_output(output: Path, resume: bool, overwrite: bool) -> None:
    if output.is_file():
        raise OutputError(f"Output {output} is a file. Name a folder.")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if resume:
        raise OutputError(
            f"The training in {output} is finished. To train further, start from it: --model "
            f"{output / 'best'} and another output."
        )
    if not overwrite:
        raise OutputError(f"Output {output} exists already. Use --overwrite, or another name.")
    if not (output / RECIPE).is_file():
        raise OutputError(
            f"Output {output} is no training ({RECIPE} is not in it) and is not overwritten. Choose "
            "another name."
        )


def _check_recipe(partial: Path, recipe: Recipe) -> None:
    if not (partial / RECIPE).is_file():
        raise OutputError(f"{partial} has no {RECIPE}. Use --overwrite to start anew.")
    before, now = asdict(read_recipe(partial / RECIPE)), asdict(recipe)
    changed = [
        f"{table}.{key} was {before[table][key]!r} and is {value!r}"
        for table, values in now.items()
        for key, value in values.items()
        if value != before[table][key] and (table, key) not in _MAY_CHANGE
    ]
    if changed:
        raise OutputError(
            f"{partial} was trained with another recipe: {changed[0]}. Resume with the same, or use "
            "--overwrite to start anew."
        )


@contextmanager
def leaving(partial: Path) -> Iterator[None]:
    """Leave nothing of a failed start, and say of an interruption how to go on."""
    interrupted = False
    try:
        yield
    except KeyboardInterrupt as error:
        interrupted = True
        raise KeyboardInterrupt(
            f"The unfinished training stays in {partial}; the same command with --resume goes on."
        ) from error
    finally:
        if not interrupted:
            leave_workplace(partial)


def leave_workplace(partial: Path) -> None:
    """Remove unfinished work from which nothing can be resumed: a failed start leaves nothing."""
    if not any(found for name in (STATE, RESULT) for found in partial.rglob(name)):
        shutil.rmtree(partial, ignore_errors=True)


def publish_workplace(partial: Path, output: Path) -> None:
    """Give finished work its final name, without what was only needed on the way."""
    shutil.rmtree(partial / EMBEDDINGS, ignore_errors=True)
    (partial / STATE).unlink(missing_ok=True)
    if output.exists():
        shutil.rmtree(output)
    partial.rename(output)
