"""The driver's side: hire workers, hand batches out, and yield what comes back.

Back-pressure: a worker has one batch at work and at most one waiting, so that as many batches are on their way as there are workers, twice.
Faults: when a worker is gone (killed, its node lost), its batches go to others and another worker is hired where there is room. A batch that
ends one worker after the other is given up, with a sentence. An exception is an answer like any other: it is not tried again.
"""

from __future__ import annotations

import math
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pipeline.cluster.connection import build_environment, connect, count_threads, list_nodes
from pipeline.cluster.parcels import Packer
from pipeline.cluster.sentences import explain_deaths, explain_start, last_line, name_rows, raise_failure
from pipeline.cluster.worker import Failure, Job, Setting, Worker, hash_meaning, hash_sources
from pipeline.rows import Row
from pipeline.terminal import say

CHANGES_NO_RESULT = True
MAX_DEATHS = 5  # workers that one batch may end
MAX_FAILED_STARTS = 20  # one after the other
IDLE_SECONDS = 30.0  # workers that no map needs are let go: others may wait for their place, and a training for their memory
LOOK_SECONDS = 1.0  # between two looks at the nodes
WAIT_SECONDS = 60.0  # between two lines that no worker has a place


@dataclass
class Task:
    """A batch on its way."""

    index: int
    rows: Sequence[Row]
    deaths: int = 0


@dataclass(eq=False)
class Hired:
    """A worker: `entering` is what it answers when it is ready, None from then on."""

    actor: Any
    entering: Any
    tasks: dict[Any, Task] = field(default_factory=dict)  # by what their results are fetched with, the oldest first


@cache
def open_pool(address: str | None, *, needs_gpu: bool) -> Pool:
    """Return this process's pool on the cluster, connecting on first use."""
    connect(address)
    return Pool(needs_gpu=needs_gpu)


class Pool:
    """Workers on a cluster, as many as it has GPUs, or CPUs for the threads that one takes."""

    def __init__(self, *, needs_gpu: bool) -> None:
        import ray

        self._ray = ray
        self._packer = Packer(ray.put)
        self._needs_gpu = needs_gpu
        stage = os.environ.get("DVC_STAGE", "").partition("@")[0]
        self._setting = Setting(os.getcwd(), hash_sources(), hash_meaning(), count_threads(), stage)
        self._hired: list[Hired] = []
        self._number = self._failed_starts = 0
        self._looked = -math.inf
        self._room = 0
        self._letting_go: threading.Timer | None = None

    def run(self, batches: Sequence[Sequence[Row]], compute: Callable[[list[Row]], Any], *, label: str) -> Iterator[tuple[int, Any]]:
        """Yield the place and the outcomes of every batch, as they come; ValueError if one cannot be computed."""
        self._keep_workers()
        self._check_gpu(label)
        parcel = self._ray.put(self._packer.pack(compute))
        self._number += 1
        job = Job(self._number, parcel, dict(self._packer.stored))
        todo = deque(Task(index, batch) for index, batch in enumerate(batches))
        waiting_since = time.monotonic()
        try:
            while todo or any(worker.tasks for worker in self._hired):
                self._hire(len(todo) + sum(len(worker.tasks) for worker in self._hired))
                job = self._hand_out(todo, job)
                finished = self._wait()
                for worker, reference in finished:
                    if worker.entering is not None:
                        self._take_in(worker)
                    elif (answer := self._fetch(worker, reference, todo, label)) is not None:
                        yield answer
                if any(worker.entering is None for worker in self._hired):
                    waiting_since = time.monotonic()
                elif time.monotonic() - waiting_since > WAIT_SECONDS:
                    waiting_since = time.monotonic()
                    say(f"{label}: no worker has started yet; others may hold the cluster's places, or nodes may still be starting", file=sys.stderr)
        finally:
            for worker in [worker for worker in self._hired if worker.tasks]:  # an error or Ctrl-C: what they compute is no longer wanted
                self._dismiss(worker)
            self._let_go_later()

    def _check_gpu(self, label: str) -> None:
        if self._needs_gpu and not any(node.get("GPU") for node in list_nodes()):
            raise ValueError(f"{label}: the models are to run on a GPU, but no node of the Ray cluster has one; set runtime.device=cpu.")

    def _hire(self, num_tasks: int) -> None:
        """Start as many workers as there is room and work for; stop those that wait for a place that is gone."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked, self._room = time.monotonic(), self._count_room()
        wanted = min(self._room, num_tasks)
        for worker in [worker for worker in self._hired if worker.entering is not None][: max(len(self._hired) - wanted, 0)]:
            self._dismiss(worker)
        while len(self._hired) < wanted:
            actor = self._ray.remote(Worker).options(**self._describe_need(), runtime_env={"env_vars": build_environment()}).remote(self._setting)
            self._hired.append(Hired(actor, actor.enter.remote()))

    def _count_room(self) -> int:
        """Count the workers that the cluster has room for."""
        name, need = ("GPU", 1) if self._needs_gpu else ("CPU", self._describe_need()["num_cpus"])
        return sum(int(node.get(name, 0) // need) for node in list_nodes())

    def _describe_need(self) -> dict[str, float]:
        """Return what a worker takes of its node: a GPU, or a CPU for each of its threads, on small nodes all that there are."""
        if self._needs_gpu:
            return {"num_gpus": 1, "num_cpus": 0}
        sizes = [int(node["CPU"]) for node in list_nodes() if node.get("CPU", 0) >= 1]
        return {"num_cpus": min([self._setting.num_threads or 1, *sizes])}

    def _hand_out(self, todo: deque[Task], job: Job) -> Job:
        """Give every ready worker a batch, then a second one to wait there, unless those left are so few that another may be free earlier."""
        ready = [worker for worker in self._hired if worker.entering is None]
        for ahead in (1, 2):
            for worker in ready:
                if todo and len(worker.tasks) < ahead and (ahead == 1 or len(todo) > len(self._hired)):
                    task = todo.popleft()
                    rows = self._packer.pack([replace(row, inputs=None) for row in task.rows])
                    if len(self._packer.stored) > len(job.stored):
                        job = replace(job, stored=dict(self._packer.stored))
                    worker.tasks[worker.actor.compute.remote(job, rows)] = task
        return job

    def _wait(self) -> list[tuple[Hired, Any]]:
        """Wait a little for whatever comes next."""
        owners = {reference: worker for worker in self._hired for reference in ([worker.entering] if worker.entering is not None else worker.tasks)}
        if not owners:
            time.sleep(LOOK_SECONDS)
            return []
        done, _ = self._ray.wait(list(owners), num_returns=1, timeout=LOOK_SECONDS)
        return [(owners[reference], reference) for reference in done]

    def _take_in(self, worker: Hired) -> None:
        """Let a worker begin; ValueError if it cannot be like the driver."""
        try:
            problem = self._ray.get(worker.entering)
        except self._ray.exceptions.RayError as error:
            problem = explain_start(error)
            if problem is None:
                self._dismiss(worker)
                self._failed_starts += 1
                if self._failed_starts < MAX_FAILED_STARTS:
                    return
                problem = f"{self._failed_starts} were killed as they started; /tmp/ray/session_latest/logs on the nodes may say why."
        if problem is not None:
            raise ValueError(f"a worker of the Ray cluster cannot begin: {problem}")
        worker.entering, self._failed_starts = None, 0

    def _fetch(self, worker: Hired, reference: Any, todo: deque[Task], label: str) -> tuple[int, Any] | None:
        """Return a batch's place and outcomes; None if its worker is gone, so that another has to compute it. ValueError if that cannot be done."""
        task = worker.tasks[reference]
        try:
            outcomes = pickle.loads(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:  # not caught by the worker, such as a call of sys.exit
            raise ValueError(f"{label}: {name_rows(task.rows)}: {last_line(error)}.") from None
        except self._ray.exceptions.RayError:
            self._take_back(worker, todo, label)
            return None
        del worker.tasks[reference]
        if isinstance(outcomes, Failure):
            raise_failure(outcomes, f"{label}: {name_rows(task.rows)}, on {outcomes.node}")
        return task.index, outcomes

    def _take_back(self, worker: Hired, todo: deque[Task], label: str) -> None:
        """Let others compute the batches of a worker that is gone; ValueError if the one that was at work has ended several."""
        at_work = next(iter(worker.tasks.values()))
        at_work.deaths += 1
        if at_work.deaths >= MAX_DEATHS:
            raise ValueError(f"{label}: {explain_deaths(at_work.rows, at_work.deaths, self._setting.stage)}") from None
        todo.extendleft(reversed(worker.tasks.values()))
        self._dismiss(worker)

    def _dismiss(self, worker: Hired) -> None:
        """Stop a worker, whether it is still there or not."""
        self._hired.remove(worker)
        self._ray.kill(worker.actor, no_restart=True)

    def _keep_workers(self) -> None:
        if self._letting_go is not None:
            self._letting_go.cancel()
            self._letting_go.join()

    def _let_go_later(self) -> None:
        self._letting_go = threading.Timer(IDLE_SECONDS, self.let_go)
        self._letting_go.daemon = True
        self._letting_go.start()

    def let_go(self) -> None:
        """Stop all workers."""
        while self._hired:
            self._dismiss(self._hired[0])
