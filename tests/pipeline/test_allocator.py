"""Freed memory stays with the process. Run: python -m pytest tests/pipeline/test_allocator.py"""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
from pipeline.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch
def work():
    blocks = [torch.ones(5 * 2**20) for _ in range(6)]  # 20 MiB each
    del blocks
for _ in range(8):
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
        for kind in ("default", "kept")
    }
    assert faults["kept"] < 100 < faults["default"]
