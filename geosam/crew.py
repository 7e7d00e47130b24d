"""Who computes: the threads of this process, as many tasks at a time as it has workers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import dask
from dask.callbacks import Callback
from dask.delayed import Delayed

from geosam.errors import GeosamWarning
from geosam.progress import Bar

FINISHING = "Interrupted: the blocks in flight are finished. Ctrl-C again stops at once."


class Crew(Protocol):
    """Computes tasks."""

    def compute(self, tasks: Sequence[Delayed], counted: str, bar: Bar) -> tuple[Any, ...]:
        """Compute tasks and all they need, and return what they give.

        Parameters
        ----------
        tasks
            What is wanted. What is large is kept by the task that made it, and not returned.
        counted
            Name of the function whose tasks move the bar.
        bar
            Shows how far it is.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C, when the tasks in flight are finished.
        """


@dataclass(frozen=True)
class Threads:
    """The threads of this process."""

    workers: int
    """How many work side by side."""

    def compute(self, tasks: Sequence[Delayed], counted: str, bar: Bar) -> tuple[Any, ...]:
        """Compute tasks; see :class:`Crew`."""
        # A pool of its own is waited for, whatever ends the computation.
        with ThreadPoolExecutor(self.workers) as pool, _Counter(bar, counted):
            try:
                return dask.compute(*tasks, scheduler="threads", pool=pool)
            except KeyboardInterrupt:
                warnings.warn(FINISHING, GeosamWarning, stacklevel=2)
                raise


class _Counter(Callback):
    """Moves a bar on with every finished task of one function."""

    def __init__(self, bar: Bar, function: str) -> None:
        super().__init__(posttask=self._count)
        self._bar, self._prefix = bar, function

    def _count(self, key: object, *_: object) -> None:
        name = key[0] if isinstance(key, tuple) else key
        if str(name).startswith(self._prefix):
            self._bar.update()
