"""Keep the memory that a training step frees, where the C library is glibc.

glibc gives freed memory back to the kernel: a block above its mmap threshold at once, the top of the heap above its trim
threshold (128 kB, or twice the largest block that was freed). A step on the CPU frees every activation, some megabytes each, and
the next one asks for the same again: thousands of page faults a step, each of which zeroes a page. With both thresholds out of
reach the process keeps its largest size and a step faults no more; benchmarks/kept_memory.py has what that is worth.
Source: mallopt(3). It holds for the rest of the process, so commands do it, and a library's caller is not touched.
"""

import ctypes
import os
import sys

SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # of malloc.h
PAD = 64 << 20  # bytes the heap grows by at least: fewer, larger steps


def keep_freed_memory() -> bool:
    """True where the C library took it; False on another one, and where the user's environment rules its allocator."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in SAID):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    asked = ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, PAD))
    return all([mallopt(option, value) == 1 for option, value in asked])
