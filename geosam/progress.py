"""How far a run has come: a bar on a terminal, a plain line every so often elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol, TextIO

from tqdm import tqdm

PLAIN_EVERY_S = 10.0
"""Seconds between the lines of a run whose messages go to a file."""


class Bar(Protocol):
    """What shows how far something is."""

    def update(self, n: int = 1) -> Any:
        """Count what is done."""

    def set_description(self, desc: str) -> Any:
        """Say otherwise what is being done."""


class _Nothing:
    """Stands for a bar where nothing is to be shown."""

    def update(self, n: int = 1) -> None:
        pass

    def set_description(self, desc: str) -> None:
        pass


SILENT: Bar = _Nothing()
"""Shows nothing."""


class _Lines:
    """Stands for a bar where the output is no terminal: a plain line every so often."""

    def __init__(self, label: str, total: int, out: TextIO) -> None:
        self._label, self._total, self._out = label, total, out
        self._done, self._told = 0, monotonic()

    def set_description(self, desc: str) -> None:
        self._label = desc

    def update(self, n: int = 1) -> None:
        self._done += n
        if monotonic() - self._told >= PLAIN_EVERY_S:
            self._told = monotonic()
            self._out.write(f"{self._label}: {self._done} of {self._total}\n")
            self._out.flush()


@contextmanager
def count(
    label: str, total: int, show: bool, out: TextIO | None = None, start: int = 0
) -> Iterator[Bar]:
    """Show how far the body is, which counts by itself.

    Parameters
    ----------
    label
        What is being done.
    total
        How many there are.
    show
        Nothing is shown if False.
    out
        Standard error without it.
    start
        How many were done before.
    """
    out = out or sys.stderr
    if not show:
        yield SILENT
    elif not out.isatty():
        lines = _Lines(label, total, out)
        lines.update(start)
        yield lines
    else:
        with tqdm(
            total=total, desc=label, file=out, mininterval=0.2, ncols=100, initial=start
        ) as bar:
            yield bar
