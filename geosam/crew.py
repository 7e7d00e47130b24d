"""Who computes: the threads of this process; see :mod:`geosam.cluster` for processes and clusters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rasterio.errors import NotGeoreferencedWarning

from geosam.cores import shared_cores
from geosam.errors import GeosamWarning
from geosam.heap import give_back
from geosam.progress import Bar

FINISHING = "Interrupted: the blocks in flight are finished. Ctrl-C again stops at once."
AHEAD = 4
"""Pieces of work that wait for each worker, so that none is idle and none are many."""


Needs = Callable[[int], Collection[int]]
"""The number of a piece of work -> those of earlier ones that must be over before it is handed out."""


def nothing(number: int) -> Collection[int]:
    """Say that a piece of work needs no other."""
    return ()


class Crew(Protocol):
    """Does pieces of work side by side."""

    @property
    def most(self) -> int:
        """Pieces of work that are handed out at once."""

    def do(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        bar: Bar,
        needs: Needs = nothing,
        models: int = 0,
    ) -> list[Any]:
        """Call a function with each item, and return what it gives, in their order.

        Parameters
        ----------
        function
            What is large is kept on disk by it, and not returned. For another process it is pickled.
        items
            Taken one by one, no more than :data:`AHEAD` a worker before they are worked on.
        bar
            Shows how far it is.
        needs
            What an item must wait for.
        models
            How many pieces of the whole work go through the model, which may be too large for many of them at a time,
            whether or not they are among these items: in how many threads one is computed is told by its last bits.

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
    models: int | None = None
    """How many of them at most, where items go through the model; all without it."""

    def at_once(self, models: int) -> int:
        """Return how many pieces of work are done at a time, of which so many go through the model."""
        if not models or self.models is None:
            return self.workers
        return min(self.models, models)

    @property
    def most(self) -> int:
        """Pieces of work that are handed out at once."""
        return AHEAD * self.workers

    def do(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        bar: Bar,
        needs: Needs = nothing,
        models: int = 0,
    ) -> list[Any]:
        """Do pieces of work; see :class:`Crew`."""
        flying: dict[Any, int] = {}
        threads = self.at_once(models)
        try:
            # The pool is waited for, whatever ends the work.
            with unplaced(), shared_cores(threads), ThreadPoolExecutor(threads) as pool:
                try:
                    return results(
                        lambda item: pool.submit(function, item),
                        items, flying, self.most, wait, bar, needs,
                    )  # fmt: skip
                except KeyboardInterrupt:
                    warnings.warn(FINISHING, GeosamWarning, stacklevel=2)
                    raise
                finally:
                    for future in flying:
                        future.cancel()
        finally:
            give_back()


@contextmanager
def unplaced() -> Iterator[None]:
    """Let nobody be warned of rasters that lie nowhere on Earth.

    rasterio makes some in memory, and quiets this warning for as long as that takes. When two threads do it at a time, one
    puts filters of warnings back that the other still needs: within this, all that they put back are quiet.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def results(
    submit: Callable[[Any], Any],
    items: Iterable[Any],
    flying: dict[Any, int],
    most: int,
    wait: Callable[..., Any],
    bar: Bar,
    needs: Needs = nothing,
) -> list[Any]:
    """Hand out items, and return what comes of them, with no more than some of them unfinished.

    Parameters
    ----------
    submit
        Hands out an item and gives its future.
    items
        Taken one by one.
    flying
        Holds those that are not finished, whatever happens, with their numbers.
    most
        How many those are at most.
    wait
        Waits for futures of this kind, as :func:`concurrent.futures.wait` does.
    bar
        Moves on with every result.
    needs
        What an item waits for.
    """
    found: dict[int, Any] = {}

    def land() -> None:
        for future in wait(list(flying), return_when="FIRST_COMPLETED").done:
            found[flying.pop(future)] = future.result()
            bar.update()

    for number, item in enumerate(items):
        while any(needed not in found for needed in needs(number)):
            land()
        flying[submit(item)] = number
        if len(flying) >= most:
            land()
    while flying:
        land()
    return [found[number] for number in sorted(found)]
