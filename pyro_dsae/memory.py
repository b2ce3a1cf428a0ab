"""What is freed on the CPU is kept for the next step of training, not handed back to the system.

The C library maps every large block anew, and the system clears its pages at their first use: for
the preset ``paper``, with blocks of 67 MB, about a fifth of a step. Those of ``small`` are smaller
than what the library maps, and as fast either way.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3), and what its own adjustment comes to as a program runs.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
ADJUSTED = {MMAP_MAX: 65536, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """In here what is freed stays with the process; in the end it goes back to the system.

    Of the whole process, where its C library is glibc; nothing happens with any other.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1)):
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in ADJUSTED.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
