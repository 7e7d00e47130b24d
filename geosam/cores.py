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
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // pieces))
    try:
        with dask.config.set(scheduler="threads", num_workers=pieces):
            yield
    finally:
        torch.set_num_threads(before)
