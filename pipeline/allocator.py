"""Keep memory that a process has freed for its next tensors, where the C library is glibc, and ask for it in large pages.

By default glibc gives large blocks back to the system as soon as they are freed and asks for them again a moment later; the system
hands out every page anew, filled with zeros. For the convolutions of an image encoder that was half of the CPU time. Blocks that still
go back come in pages of 2 MiB instead of 4 KiB, where Linux has them on request: a third of the ranker's time over a million items
went into handing out the small ones. No value changes.
"""

from __future__ import annotations

import ctypes
import os
import sys

CHANGES_NO_RESULT = True
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h
MMAP_BYTES = 32 * 2**20  # larger blocks still go back at once; the most that every version of glibc takes
TRIM_BYTES = 512 * 2**20  # free memory at the end of the heap that a process may hold on to
SMALL_MMAP_BYTES = 2**20
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch reads it once, at its first tensor


def keep_freed_memory() -> bool:
    """Set glibc's thresholds for this process, before its first tensor; False where there is no glibc, and they are not changed."""
    os.environ.setdefault(LARGE_PAGES, "1")
    return set_thresholds({M_MMAP_THRESHOLD: MMAP_BYTES, M_TRIM_THRESHOLD: TRIM_BYTES})


def return_freed_memory() -> bool:
    """Give freed blocks back to the system at once, for a process that fills the memory: among what stays they would leave gaps of gigabytes."""
    return set_thresholds({M_MMAP_THRESHOLD: SMALL_MMAP_BYTES})


def set_thresholds(values: dict[int, int]) -> bool:
    """Set options of glibc's malloc; False where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(option, value) for option, value in values.items())
