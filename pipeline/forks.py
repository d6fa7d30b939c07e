"""Copies of this process that compute batches side by side, on Linux machines whose CPUs compute the models.

A forked copy shares the loaded models' memory, so they are loaded here before: by `prepare`, or without one by computing the first batch. One
copy per core with one thread each takes less of the processor's time than many threads inside one operation do; above all, a row's bytes then
do not depend on how many cores a machine has.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pipeline.memory import measure_free

CHANGES_NO_RESULT = True
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container
LEAST_MEMORY = 2**30  # bytes that should be free for a copy


def compute_in_copies(
    num_batches: int, compute: Callable[[int], Any], *, workers: int, prepare: Callable[[], object] | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield each batch's number and what `compute` makes of it, as the batches are finished; at most `workers` of them are on their way.

    An exception in a copy is raised here; RuntimeError if a copy was killed.
    """
    if prepare is None:
        yield 0, compute(0)
    else:
        prepare()
    waiting = iter(range(prepare is None, num_batches))
    context = multiprocessing.get_context("fork")
    copies: dict[Connection, Any] = {}
    try:
        for number in itertools.islice(waiting, workers):
            here, there = context.Pipe()
            copy = context.Process(target=_serve, args=(there, compute, os.getpid()), daemon=True)
            copy.start()
            there.close()
            copies[here] = copy
            _send(here, number)
        busy = set(copies)
        while busy:
            for connection in wait(list(busy)):
                answer = _receive(connection, copies[connection])
                if (number := next(waiting, None)) is not None:
                    _send(connection, number)
                else:
                    busy.discard(connection)
                yield answer
    finally:
        for connection, copy in copies.items():
            connection.close()
            copy.kill()
            copy.join()


def _send(connection: Connection, number: int) -> None:
    """Give a copy a batch; one that is gone is noticed where its answer is read."""
    with contextlib.suppress(ConnectionError):
        connection.send(number)


def _receive(connection: Connection, copy: Any) -> tuple[int, Any]:
    """Return what a copy has computed; raise what it could not compute, or RuntimeError if it is gone."""
    try:
        number, outcomes, error = pickle.loads(connection.recv_bytes())
    except (EOFError, ConnectionError):
        copy.join()
        how = f"was killed by signal {-copy.exitcode}" if copy.exitcode < 0 else f"ended with exit code {copy.exitcode}"
        raise RuntimeError(f"a worker {how}") from None
    if error is not None:
        raise error
    return number, outcomes


def _serve(connection: Connection, compute: Callable[[int], Any], parent: int) -> None:
    """Compute batches until the parent wants no more, in a copy that lives no longer than it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C, and ends its copies
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # locks of the parent's are open here too: a killed one's must be free at once
    if os.getppid() != parent:
        return
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            number = connection.recv()
            connection.send_bytes(_pack(number, compute))


def _pack(number: int, compute: Callable[[int], Any]) -> bytes:
    """Compute a batch and pack the answer: (number, outcomes, None) or (number, None, exception)."""
    try:
        return pickle.dumps((number, compute(number), None), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return pickle.dumps((number, None, _make_portable(error)), protocol=pickle.HIGHEST_PROTOCOL)


def _make_portable(error: Exception) -> Exception:
    """Return the exception with its traceback as a note, or one of the same words where it cannot be pickled."""
    said = f"in a copy of this process:\n{''.join(traceback.format_exception(error))}"
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(" ".join(f"{type(error).__name__}: {error}".split()))
    error.add_note(said)
    return error


def count_workers(asked: int, threads: int) -> int:
    """Return how many copies may compute side by side: `asked`, or (0) one for every `threads` cores, as far as there is memory; 1 off Linux."""
    if not hasattr(os, "sched_getaffinity"):
        return 1
    free = measure_free()
    most = count_cores() // threads if free is None else min(count_cores() // threads, free // LEAST_MEMORY)
    return asked or max(1, most)


def count_cores() -> int:
    """Return how many cores this process may use: those it is bound to, or fewer where its container has a share of them."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = QUOTA.read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores
