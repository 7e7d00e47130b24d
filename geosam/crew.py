"""Who computes: the threads of this process; see :mod:`geosam.cluster` for processes and clusters."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from geosam.errors import GeosamWarning
from geosam.progress import Bar

FINISHING = "Interrupted: the blocks in flight are finished. Ctrl-C again stops at once."
AHEAD = 4
"""Pieces of work that wait for each worker, so that none is idle and none are many."""


class Crew(Protocol):
    """Does pieces of work that do not depend on one another."""

    def do(self, function: Callable[[Any], Any], items: Iterable[Any], bar: Bar) -> list[Any]:
        """Call a function with each item, and return what it gives, in their order.

        Parameters
        ----------
        function
            What is large is kept on disk by it, and not returned. For another process it is pickled.
        items
            Taken one by one, no more than :data:`AHEAD` a worker before they are worked on.
        bar
            Shows how far it is.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C, when what is in flight is finished.
        """


@dataclass(frozen=True)
class Threads:
    """The threads of this process."""

    workers: int
    """How many work side by side."""

    def do(self, function: Callable[[Any], Any], items: Iterable[Any], bar: Bar) -> list[Any]:
        """Do pieces of work; see :class:`Crew`."""
        waiting: deque[Future] = deque()
        # The pool is waited for, whatever ends the work.
        with ThreadPoolExecutor(self.workers) as pool:
            submitted = (pool.submit(function, item) for item in items)
            try:
                return list(in_order(submitted, waiting, AHEAD * self.workers, bar))
            except KeyboardInterrupt:
                warnings.warn(FINISHING, GeosamWarning, stacklevel=2)
                raise
            finally:
                for future in waiting:
                    future.cancel()


def in_order(submitted: Iterable[Any], waiting: deque[Any], most: int, bar: Bar) -> Iterable[Any]:
    """Give the results of futures in their order, and have no more than some of them submitted.

    Parameters
    ----------
    submitted
        Submits one with every step.
    waiting
        Holds those whose result was not taken.
    most
        How many those are at most.
    bar
        Moves on with every result.
    """
    for future in submitted:
        waiting.append(future)
        if len(waiting) >= most:
            yield _taken(waiting, bar)
    while waiting:
        yield _taken(waiting, bar)


def _taken(waiting: deque[Any], bar: Bar) -> Any:
    result = waiting.popleft().result()
    bar.update()
    return result
