import platform
import resource
import sys
from pathlib import Path

import pytest
import torch

from pyro_dsae.memory import freed_memory_kept

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or sys.platform != "linux",
    reason="only glibc is told to keep memory",
)
LARGE = 2**26  # bytes, more than glibc ever keeps by itself


def pages_cleared(rounds: int = 4) -> int:
    """By the system for so many large blocks, of which each is freed before the next."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(LARGE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_what_is_freed_is_used_again_and_goes_back_in_the_end():
    outside = pages_cleared()
    with freed_memory_kept():
        fewest = min(pages_cleared() for _ in range(5))  # small blocks take of the large ones first
        assert fewest < 0.1 * outside
        kept = resident()
    assert resident() < kept - LARGE / 2
