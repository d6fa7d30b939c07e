"""Seconds of two ways to do one thing, taken in turns on the same rows, and their ratio with an interval over the repetitions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.metrics.intervals import MIN_USERS, Interval, compute_mean_interval
from tests.bench.lots import Lot

CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
Way = Callable[[Lot], dict[str, Any]]  # every row's outcome by item_id; a row without one is left out
Same = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class Contest:
    """One stage's work done in two ways: by the pipeline, and row by row with the libraries' public calls."""

    name: str
    ours: Way
    loop: Way
    same: Same  # whether two outcomes of a row are the same, but for the last bits


@dataclass
class Timings:
    """Seconds of both ways by clock, an entry a repetition, and how many of the rows had the same outcome."""

    ours: dict[str, list[float]] = field(default_factory=lambda: {clock: [] for clock in CLOCKS})
    loop: dict[str, list[float]] = field(default_factory=lambda: {clock: [] for clock in CLOCKS})
    num_rows: int = 0
    num_same: int = 0


def measure(way: Way, lot: Lot) -> tuple[dict[str, Any], dict[str, float]]:
    """Do it once; return the outcomes and the seconds by clock."""
    before = {clock: read() for clock, read in CLOCKS.items()}
    outcomes = way(lot)
    return outcomes, {clock: read() - before[clock] for clock, read in CLOCKS.items()}


def repeat(contest: Contest, lot: Lot, timings: Timings, *, ours_first: bool) -> None:
    """Add a repetition; which way comes first alternates, so that what a machine does meanwhile favours neither."""
    found = {}
    for name in ("ours", "loop") if ours_first else ("loop", "ours"):
        found[name], seconds = measure(getattr(contest, name), lot)
        for clock, value in seconds.items():
            getattr(timings, name)[clock].append(value)
    timings.num_rows += len(lot.rows)
    timings.num_same += count_same(found["ours"], found["loop"], [row["item_id"] for row in lot.rows], contest.same)


def count_same(ours: dict[str, Any], loop: dict[str, Any], keys: Sequence[str], same: Same) -> int:
    """Count the rows that have the same outcome in both, or none in both."""
    both = [(ours.get(key), loop.get(key)) for key in keys]
    return sum(first is second if first is None or second is None else same(first, second) for first, second in both)


def compute_ratio(loop: Sequence[float], ours: Sequence[float]) -> Interval:
    """Return how many times as long the loop takes: the geometric mean over the repetitions, with a 95% bootstrap interval."""
    logs = {index: math.log(slow / fast) for index, (slow, fast) in enumerate(zip(loop, ours, strict=True))}
    found = compute_mean_interval(logs, seed=0)
    value, low, high = (None if bound is None else math.exp(bound) for bound in (found.value, found.low, found.high))
    return Interval(value, low, high, found.n)


def weigh(timings: dict[str, Timings], weights: dict[str, int], clock: str, *, rows: int) -> tuple[list[float], list[float]]:
    """Return the seconds of the loops and ours that all stages would take together on so many rows each, an entry a repetition."""
    sums = []
    for way in ("loop", "ours"):
        parts = [[weights[name] / rows * seconds for seconds in getattr(taken, way)[clock]] for name, taken in timings.items()]
        sums.append([math.fsum(part) for part in zip(*parts, strict=True)])
    return sums[0], sums[1]


def format_ratio(ratio: Interval) -> str:
    """Write a ratio with its interval, if it has one."""
    interval = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"{ratio.value:.2f}{interval}"


NO_INTERVAL = f"Below {MIN_USERS} repetitions no interval is given: it would be far too narrow."
