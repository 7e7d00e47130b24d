"""How far a run has come: a bar on a terminal, a plain line every so often elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from dask.callbacks import Callback
from tqdm import tqdm

PLAIN_EVERY_S = 10.0
"""Seconds between the lines of a run whose messages go to a file."""


class _Counter(Callback):
    """Moves a bar on with every finished task of one function."""

    def __init__(self, bar: Any, function: str) -> None:
        super().__init__(posttask=self._count)
        self._bar, self._prefix = bar, function

    def _count(self, key: Any, *_: Any) -> None:
        name = key[0] if isinstance(key, tuple) else key
        if str(name).startswith(self._prefix):
            self._bar.update()


@contextmanager
def follow(label: str, function: str, total: int, show: bool, out: TextIO | None = None) -> Iterator[None]:
    """Show how many tasks of a function are done while the body computes with Dask.

    Parameters
    ----------
    label
        What is being done.
    function
        Name of the function that the tasks call.
    total
        How many there are.
    show
        Nothing is shown if False.
    out
        Standard error without it.
    """
    out = out or sys.stderr
    terminal = out.isatty()
    with (
        tqdm(
            total=total,
            desc=label,
            file=out,
            disable=not show,
            mininterval=0.2 if terminal else PLAIN_EVERY_S,
            ncols=80,
            leave=terminal,
            ascii=not terminal,
        ) as bar,
        _Counter(bar, function),
    ):
        yield
