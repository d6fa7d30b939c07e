"""Freed memory stays with the process, and new memory comes in large pages. Run: python -m pytest tests/pipeline/test_allocator.py"""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT_FAULTS = """
import ctypes, resource, sys
from pipeline.allocator import M_MMAP_THRESHOLD, keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
else:
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 * 1024)  # what glibc begins with, without its attempts to learn better
import torch
def work():
    blocks = [torch.ones(5 * 2**20) for _ in range(6)]  # 20 MiB each
    del blocks
for _ in range(60):  # blocks that begin at a large page find their places one after the other: after 4 to 18 rounds on the machines seen
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_a_freed_block_is_used_again_without_new_pages() -> None:
    faults = {
        kind: int(subprocess.run([sys.executable, "-c", COUNT_FAULTS, kind], capture_output=True, text=True, check=True).stdout)
        for kind in ("returned", "kept")
    }
    assert faults["kept"] < 100 < faults["returned"]


GAPS = """
import resource, sys
from pipeline.allocator import keep_freed_memory, return_freed_memory
assert {"kept": keep_freed_memory, "returned": return_freed_memory}[sys.argv[1]]()
import torch
blocks = [torch.ones(2**20) for _ in range(100)]  # 4 MiB each
last = torch.ones(2**15)  # lies above them and stays
del blocks
print(int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_freed_blocks_below_one_that_stays_are_returned_where_a_process_asks_for_it() -> None:
    resident = {
        kind: int(subprocess.run([sys.executable, "-c", GAPS, kind], capture_output=True, text=True, check=True).stdout)
        for kind in ("kept", "returned")
    }
    assert resident["kept"] - resident["returned"] > 300 * 2**20  # of 400 MiB


NEW_PAGES = """
import resource, sys
from pipeline.allocator import keep_freed_memory
if sys.argv[1] == "large":
    keep_freed_memory()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(64 * 2**20)  # 256 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ON_REQUEST = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not ON_REQUEST.exists() or "[madvise]" not in ON_REQUEST.read_text(), reason="only Linux has large pages, as it was set up")
def test_a_large_block_comes_in_large_pages() -> None:
    faults = {
        kind: int(subprocess.run([sys.executable, "-c", NEW_PAGES, kind], capture_output=True, text=True, check=True).stdout)
        for kind in ("large", "small")
    }
    assert faults["large"] < 10_000 < faults["small"]  # of 65,536 pages
