"""Memory that was freed, given back to the system between the steps of a run."""

from __future__ import annotations

import ctypes
import gc
import sys

YOUNG = 1
"""Generation of objects up to which circles of references are looked for: in all of what torch and its
like have made it takes a quarter of a second, and a run has eight steps."""


def give_back() -> None:
    """Return freed memory of this process, where the C library keeps it: glibc does, thread by thread.

    The next step starts other threads, and would take the same again beside it.
    """
    gc.collect(YOUNG)
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
