"""A network that is sent to a worker as the way to load it, and loaded there once a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import RLock
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from geosam.errors import ModelError

_LOADING = RLock()
MOST = 3
"""Networks that stay in a worker, where what stands for them comes anew with every step: a model, the learned
network, and what prompts the model."""


@dataclass(frozen=True)
class Resident:
    """Stands for a network, and does whatever that does."""

    function: Callable[..., Any]
    """Loads it; a function of a module, so that another process finds it."""
    arguments: tuple[tuple[str, Any], ...]
    """What the function is called with, by name."""
    token: str
    """Tells it from what was loaded in the same way at another time."""
    signature: str
    """SHA-256 over its weights, in hexadecimal."""
    here: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    """Arguments that are others in this process; they are not sent along."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Resident, (self.function, self.arguments, self.token, self.signature)

    @property
    def network(self) -> Any:
        """The network in this process.

        Raises
        ------
        ModelError
            If what is loaded here has other weights.
        """
        with _LOADING:
            found = _HELD.get(self)
            if found is None:
                found = _load(self.function, _merged(self.arguments, self.here), self.token)
        if found.signature != self.signature:
            raise ModelError(
                f"A worker finds other weights than this process for {dict(self.arguments)}. Give all "
                "of them the same checkpoint."
            )
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by pickle, before there are any fields
            raise AttributeError(name)
        return getattr(self.network, name)


def resident(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    token: str | None = None,
    here: Mapping[str, Any] | None = None,
) -> Any:
    """Load a network, and return what stands for it in any process.

    Parameters
    ----------
    function
        Loads it; a function of a module.
    arguments
        What it is called with, by name; hashable.
    token
        The same for what cannot change while a process runs: it is loaded once then, however often
        it is asked for.
    here
        Arguments that are others in this process alone, such as the device.
    """
    pairs, own = tuple(sorted(arguments.items())), tuple((here or {}).items())
    with _LOADING:
        if token is not None:
            found = _load(function, _merged(pairs, own), token)
            return Resident(function, pairs, token, found.signature, own)
        found = function(**dict(_merged(pairs, own)))
        stands = Resident(function, pairs, uuid4().hex, found.signature, own)
        _HELD[stands] = found
    return stands


def _merged(
    arguments: tuple[tuple[str, Any], ...], here: tuple[tuple[str, Any], ...]
) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted({**dict(arguments), **dict(here)}.items()))


_HELD: WeakKeyDictionary[Resident, Any] = WeakKeyDictionary()
"""The networks that were loaded here, each for as long as what stands for it."""


@lru_cache(maxsize=MOST)
def _load(function: Callable[..., Any], arguments: tuple[tuple[str, Any], ...], token: str) -> Any:
    return function(**dict(arguments))
