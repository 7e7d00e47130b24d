"""A function with some arguments bound -> something that makes Dask tasks of the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask
from dask.delayed import Delayed


def task(function: Callable[..., Any], /, **bound: Any) -> Callable[..., Delayed]:
    """Bind arguments and return a function that makes a task of the rest.

    Dask looks for tasks inside every argument, dataclasses too, and would take models and tables
    apart at each call. What is bound here is passed as it is.
    """
    return dask.delayed(partial(function, **bound), pure=False, traverse=False)


def compute(lazy: Any) -> Any:
    """Compute here and now: pieces of work are done side by side, and what is in one is not."""
    return dask.compute(lazy, scheduler="synchronous")[0]
