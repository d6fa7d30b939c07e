"""Out of memory in a sentence, and processes that were killed for it. Run: python -m pytest tests/pipeline/test_memory.py"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import memory
from pipeline.memory import explain_killed, explain_memory, is_out_of_memory, measure_free, note_running, take_killed
from tests.toy_project import REPO

KILL = "import os, signal; from pipeline.memory import note_running\nwith note_running('generation'): os.kill(os.getpid(), signal.SIGKILL)"


def test_what_means_no_memory_and_what_does_not() -> None:
    for text in ("CUDA out of memory. Tried", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc"):
        assert is_out_of_memory(RuntimeError(text)), text
    assert is_out_of_memory(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_sentence_says_what_was_asked_for_what_is_free_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.memory.measure_free", lambda: 1536 * 2**20)
    error = MemoryError("Unable to allocate 7.45 GiB for an array")
    says = "the machine has no memory left (7.45 GiB more were asked for, 1.5 GiB free); "
    assert explain_memory(error, "generation") == says + "lower generation.batch_size."
    assert explain_memory(error, "retrieval") == says + "close other programs, or use a machine with more memory."
    monkeypatch.setattr("pipeline.memory.measure_free", lambda: None)
    assert explain_memory(MemoryError()) == "the machine has no memory left; close other programs, or use a machine with more memory."


def test_free_memory_is_that_of_the_container_where_it_has_less(tmp_path: Path) -> None:
    assert measure_free(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   50 kB\n")
    assert measure_free(tmp_path) == 50 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    assert measure_free(tmp_path) == 50 * 1024
    (group / "memory.max").write_text("30000\n")
    assert measure_free(tmp_path) == 29000


def test_a_killed_stage_is_told_of_once_and_a_running_or_finished_one_not(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    ended = subprocess.run([sys.executable, "-c", KILL], cwd=tmp_path, env=env, check=False)
    assert ended.returncode == -signal.SIGKILL
    with note_running("captioning"):
        assert take_killed() == ["generation"]
        assert take_killed() == []
    assert list((tmp_path / ".work" / "running").iterdir()) == []
    assert explain_killed("generation") == (
        "stage generation was killed (signal 9), if not by hand then by the system because memory ran out: "
        "lower generation.batch_size; what it has finished is kept."
    )


def test_a_limit_on_addresses_is_said_in_the_place_of_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_free", lambda: 20 * 2**30)
    assert memory.describe_free() == "20 GiB free"
    limit = 10 * 2**40
    monkeypatch.setattr(resource, "getrlimit", lambda number: (limit if number == resource.RLIMIT_AS else resource.RLIM_INFINITY,) * 2)
    assert memory.describe_free() == "20 GiB free"
    mapped = limit - memory.measure_allowed()
    limit = mapped + 2**30
    assert memory.describe_free().endswith(" left of what `ulimit -v` allows")
    assert 0 < memory.measure_allowed() <= 2**30 + 2**26  # this process may have grown or shrunk
