"""How long each step of a run takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Clock:
    """Adds up the seconds of steps, from the moment it is made."""

    def __init__(self) -> None:
        self._begun = perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add the time of the body to a step."""
        started = perf_counter()
        yield
        self._seconds[step] = self._seconds.get(step, 0.0) + perf_counter() - started

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step, and of everything as ``total``."""
        total = perf_counter() - self._begun
        return {name: round(s, 3) for name, s in {**self._seconds, "total": total}.items()}
