"""How long a file may take in all: timeouts of single reads alone would let a host send a byte every 20 s, for years."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from pipeline.data.fetch.failures import Later


@dataclass
class TimeBudget:
    """The seconds that a file may be worked at; waiting for a free place or between two tries is not counted."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    used: float = 0.0
    started: float = 0.0

    @contextlib.contextmanager
    def count(self) -> Iterator[None]:
        """Count the time that this thread spends inside of the block."""
        token, self.started = CURRENT.set(self), self.clock()
        try:
            yield
        finally:
            self.used += self.clock() - self.started
            CURRENT.reset(token)

    def compute_left(self) -> float:
        """Return the seconds left, inside of the block."""
        return self.seconds - self.used - (self.clock() - self.started)


CURRENT: ContextVar[TimeBudget | None] = ContextVar("budget", default=None)  # of the file that this thread downloads


def limit_timeout(timeout: float | None) -> float | None:
    """Return how long a single step may wait: `timeout`, or less where the file has less left; Later if it has nothing left."""
    budget = CURRENT.get()
    if budget is None:
        return timeout
    left = budget.compute_left()
    if left <= 0:
        raise Later(f"the file was not there after {budget.seconds:g} s")
    return left if timeout is None else min(timeout, left)
