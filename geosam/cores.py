"""The cores of this machine, shared between pieces of work side by side and the threads of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dask


@contextmanager
def shared_cores(pieces: int) -> Iterator[None]:
    """Let torch use, in each of some pieces of work side by side, its share of the cores, and dask as many
    threads as there are pieces, so that they do not fight.

    Threads that are started within it follow; of others, the one that enters alone.
    """
    with _torch_threads(pieces), dask.config.set(scheduler="threads", num_workers=pieces):
        yield


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch use one core, as long as it lasts."""
    import torch

    with _torch_threads(torch.get_num_threads()):
        yield


@contextmanager
def _torch_threads(parts: int) -> Iterator[None]:
    """Let torch use one of some parts of the cores that it has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // parts))
    try:
        yield
    finally:
        torch.set_num_threads(before)
