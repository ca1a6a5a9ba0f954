"""Freed memory stays with a process that is told so: the same again costs the kernel nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.training.conftest import ASSETS

TAKE_AND_FREE = """
import ctypes, resource, sys
sys.path.insert(0, sys.argv[1])
from memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        piece = libc.malloc(100 << 20)
        ctypes.memset(piece, 1, 100 << 20)
        libc.free(piece)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
if keep_freed_memory():
    faults()
    print(given_back, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_large_pieces_are_taken_again_without_a_page_fault() -> None:
    command = [sys.executable, "-c", TAKE_AND_FREE, str(ASSETS / "training")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not printed:
        pytest.skip("another C library than glibc")
    given_back, kept = map(int, printed)
    assert given_back > 5 * 100 * 256 / 2
    assert kept < 100
