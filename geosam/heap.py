"""The heap that all threads of a run share, and memory that was freed, given back between its steps."""

from __future__ import annotations

import ctypes
import gc
import sys

YOUNG = 1
"""Generation of objects up to which circles of references are looked for: in all of what torch and its
like have made it takes a quarter of a second, and a run has eight steps."""
ONE_HEAP = {"ARENA_MAX": 1, "MMAP_THRESHOLD": 32 << 20, "TRIM_THRESHOLD": 128 << 20}
"""How glibc is told to keep memory: in one heap, arrays below 32 MB inside it, and up to 128 MB that are free at its
end. As it comes, one heap shrinks and grows with every layer of a network, which takes longer by a seventh."""
_NUMBERS = {"ARENA_MAX": -8, "MMAP_THRESHOLD": -3, "TRIM_THRESHOLD": -1}
"""What glibc's `mallopt` calls these."""


def share_heap() -> None:
    """Let threads that start from now on take their memory from one heap, where the C library is glibc.

    It gives each of them a heap of its own otherwise, so that what one has freed another takes again beside it. Pieces
    of work ask for few and large arrays, and do not wait for one another.
    """
    if sys.platform == "linux":
        option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if option is not None:
            for name, value in ONE_HEAP.items():
                option(_NUMBERS[name], value)


def one_heap_environment() -> dict[str, str]:
    """Return the environment in which a process begins with that."""
    names = {"ARENA_MAX": "MALLOC_ARENA_MAX"}
    return {names.get(n, f"MALLOC_{n}_"): str(value) for n, value in ONE_HEAP.items()}


def give_back() -> None:
    """Return freed memory of this process, where the C library keeps it: glibc does, thread by thread.

    The next step starts other threads, and would take the same again beside it.
    """
    gc.collect(YOUNG)
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
