"""Threads of a run take from one heap."""

import ctypes
import os
import subprocess
import sys

import pytest

from geosam.heap import one_heap_environment

PROGRAM = """
import ctypes, sys, threading

libc = ctypes.CDLL(None)


class Told(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]


libc.mallinfo2.restype = Told  # of the first heap alone; "h" are its bytes in use
libc.malloc.restype = ctypes.c_void_p
if sys.argv[1] == "shared":
    from geosam.heap import share_heap

    share_heap()
before = libc.mallinfo2().h
thread = threading.Thread(target=lambda: [libc.malloc(ctypes.c_size_t(1 << 20)) for _ in range(20)])
thread.start()
thread.join()
print((libc.mallinfo2().h - before) >> 20)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 tells of its heaps"
)
@pytest.mark.parametrize(
    ("how", "environment", "megabytes"),
    [("apart", {}, 0), ("shared", {}, 20), ("apart", one_heap_environment(), 20)],
)
def test_threads_take_from_the_first_heap(how, environment, megabytes):
    command = [sys.executable, "-c", PROGRAM, how]
    told = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert int(told.stdout) == megabytes
