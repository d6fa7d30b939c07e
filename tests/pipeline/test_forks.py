"""Copies of a process that compute batches: every batch once, errors as if there were no copies, and nobody left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from pipeline import forks
from pipeline.endings import explain
from pipeline.engine import choose_engine, compute_batches
from pipeline.forks import compute_in_copies, count_cores, count_workers
from pipeline.rows import Row

BATCHES = [[Row(f"{batch} {place}", batch) for place in range(2)] for batch in range(9)]


class PickyError(Exception):
    """An exception that cannot be made again from what pickle keeps of it."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def compute(rows: list[Row]) -> tuple[int, list[str]]:
    return os.getpid(), [row.key for row in rows]


def run_batches(workers: int, **options: Any) -> dict[int, tuple[int, list[str]]]:
    choose_engine("local", None, needs_gpu=False, workers=workers)
    answers = list(compute_batches(BATCHES, compute, label="x", **options))
    assert len(answers) == len(BATCHES)
    return dict(answers)


@pytest.mark.parametrize("workers", [2, 3, 20])
def test_every_batch_is_computed_once_the_first_here_and_the_others_in_copies(workers: int) -> None:
    answers = run_batches(workers)
    assert [answers[index][1] for index in range(9)] == [[row.key for row in batch] for batch in BATCHES]
    assert answers[0][0] == os.getpid()
    others = {answers[index][0] for index in range(1, 9)}
    assert os.getpid() not in others
    assert len(others) <= min(workers, 8)


def test_what_loads_for_all_is_called_here_once_and_then_every_batch_is_computed_in_a_copy() -> None:
    loaded: list[int] = []
    answers = run_batches(2, prepare=lambda: loaded.append(os.getpid()))
    assert loaded == [os.getpid()]
    assert [answers[index][1] for index in range(9)] == [[row.key for row in batch] for batch in BATCHES]
    assert os.getpid() not in {pid for pid, _ in answers.values()}
    assert {pid for pid, _ in run_batches(1, prepare=lambda: None).values()} == {os.getpid()}


def test_work_that_is_shared_between_batches_and_a_servers_threads_make_no_copies() -> None:
    assert {pid for pid, _ in run_batches(3, in_copies=False).values()} == {os.getpid()}
    assert {pid for pid, _ in run_batches(1).values()} == {os.getpid()}
    found: list[dict[int, tuple[int, list[str]]]] = []
    thread = threading.Thread(target=lambda: found.append(run_batches(3)))
    thread.start()
    thread.join()
    assert {pid for pid, _ in found[0].values()} == {os.getpid()}


def raise_for(number: int, error: Exception | None) -> int:
    if number == 3:
        if error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise error  # type: ignore[misc]
    return number


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("item 7 has no picture."), ValueError, "item 7 has no picture."),
        (FileNotFoundError(2, "No such file", "a.png"), FileNotFoundError, "a.png"),
        (PickyError("a hole", "item 7"), RuntimeError, "PickyError: a hole at item 7"),
        (None, RuntimeError, "a worker was killed by signal 9"),
    ],
)
def test_an_error_in_a_copy_is_raised_here_and_no_copy_is_left(error: Exception | None, kind: type[Exception], words: str) -> None:
    before = list_children()
    with pytest.raises(kind, match=words) as caught:
        list(compute_in_copies(6, lambda number: raise_for(number, error), workers=2))
    assert type(caught.value) is kind
    assert list_children() == before
    if error is not None:
        assert "raise_for" in caught.value.__notes__[0], "where it happened"


@pytest.mark.parametrize("number", range(1, 6))
def test_a_copy_that_dies_before_it_reads_its_next_batch_is_a_killed_one(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = forks._send

    def kill_then_send(connection: Connection, batch: int) -> None:
        if batch == number:
            for copy in list_children():
                if copy not in before:
                    os.kill(int(copy), signal.SIGKILL)
            time.sleep(0.05)
        real(connection, batch)

    before = list_children()
    monkeypatch.setattr(forks, "_send", kill_then_send)
    with pytest.raises(RuntimeError, match="a worker was killed by signal 9"):
        list(compute_in_copies(6, lambda batch: batch, workers=2))
    assert list_children() == before


def test_a_killed_copy_is_explained_as_memory_that_ran_out() -> None:
    with pytest.raises(RuntimeError) as caught:
        list(compute_in_copies(6, lambda number: raise_for(number, None), workers=2))
    sentence = explain(caught.value, stage="keywords")
    assert sentence is not None
    assert sentence.startswith("a worker process was killed, most likely by the system because memory ran out")
    assert sentence.endswith("lower keywords.batch_size, or compute in fewer copies with runtime.workers=1.")


def test_who_wants_no_more_ends_the_copies() -> None:
    def wait_long(number: int) -> int:
        time.sleep(30 if number else 0)
        return number

    before, started = list_children(), time.monotonic()
    answers: Iterator[tuple[int, int]] = compute_in_copies(6, wait_long, workers=2)
    assert next(answers) == (0, 0)
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 10
    assert list_children() == before


def list_children() -> list[str]:
    """List this process's children that run."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()


PARENT = r"""
import os, sys, time
from pipeline.forks import compute_in_copies
def work(number):
    os.write(1, b"%d\n" % os.getpid())
    time.sleep(60 if number else 0)
for _ in compute_in_copies(9, work, workers=2): pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_copies_end_with_their_parent_however_it_ends(number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    copies = [int(parent.stdout.readline()) for _ in range(3)][1:]
    parent.send_signal(number)
    parent.wait(10)
    stop = time.monotonic() + 10
    while any(is_running(copy) for copy in copies):
        assert time.monotonic() < stop, "copies outlive their parent"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("asked", "threads", "free", "expected"),
    [(0, 1, None, 8), (0, 2, None, 4), (0, 3, None, 2), (0, 16, None, 1), (0, 1, 3 * 2**30, 3), (0, 1, 2**20, 1), (5, 1, 2**20, 5), (1, 1, None, 1)],
)
def test_there_are_as_many_copies_as_keep_the_cores_busy_and_fit(
    asked: int, threads: int, free: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "count_cores", lambda: 8)
    monkeypatch.setattr(forks, "measure_free", lambda: free)
    assert count_workers(asked, threads) == expected


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 6), ("200000 100000", 2), ("50000 100000", 1), ("900000 100000", 6), ("?", 6)])
def test_a_containers_share_of_the_cores_counts(quota: str, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    file = tmp_path / "cpu.max"
    file.write_text(f"{quota}\n", encoding="ascii")
    monkeypatch.setattr(forks, "QUOTA", file)
    assert count_cores() == expected


def test_without_forks_there_are_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert count_workers(0, 1) == count_workers(4, 1) == 1


def test_a_copy_whose_parent_is_gone_before_it_begins_computes_nothing() -> None:
    computed: list[int] = []
    note: Callable[[int], None] = computed.append
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    pid = os.fork()
    if not pid:
        forks._serve(None, note, parent=1)  # type: ignore[arg-type]
        os._exit(len(computed))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert before == {number: signal.getsignal(number) for number in before}
