"""Several runs of one experiment as one table: the users of all seeds together, and rows of another setting under names of their own.

A figure's interval is that of a bootstrap over seeds and, within each, over users (`pipeline/metrics/intervals.py`): what is said holds for
another seed as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiments.catalogue import Experiment
from experiments.results import ByUser, Cost, RunResult

Pooled = dict[str, dict[str, ByUser]]  # by method and metric


def pool_results(experiment: Experiment, results: Mapping[str, RunResult]) -> RunResult:
    """Return the finished runs of an experiment as one result, whose users are (seed, user); one run alone is left as it is."""
    if sum(len(group.points) for group in experiment.groups) == 1:
        return next(iter(results.values()))
    by_user: Pooled = {}
    tests: dict[str, list[float]] = {}
    first: RunResult | None = None
    costs: dict[str, list[Cost]] = {}
    for group in experiment.groups:
        for point in group.points:
            result = results.get(point.run.name)
            if result is None:
                continue
            first = first or result
            for method in result.by_user if group.methods is None else [name for name in group.methods if name in result.by_user]:
                add_users(by_user.setdefault(f"{method}{group.suffix}", {}), result, method)
                if method in result.assignment_p:
                    tests.setdefault(f"{method}{group.suffix}", []).append(result.assignment_p[method])
                if method in result.costs:
                    costs.setdefault(f"{method}{group.suffix}", []).append(result.costs[method])
    assert first is not None, "somebody has looked whether a run is finished"
    seeds = tuple(sorted({result.seed for result in results.values()}))
    names = ", ".join(dict.fromkeys(result.experiment for result in results.values()))
    pooled = {method: pool_costs(known) for method, known in costs.items()}
    seconds = pool_seconds([result.stage_seconds for result in results.values()])
    return replace(first, experiment=names, by_user=by_user, costs=pooled, trainings={}, seeds=seeds, tests=tests, stage_seconds=seconds)


def pool_costs(costs: Sequence[Cost]) -> Cost:
    """Return what a method costs by the median over the runs that measured it: the clock also counts what else the machine was doing."""
    return replace(
        costs[0],
        training_seconds=find_median([cost.training_seconds for cost in costs]),
        seconds_per_image=find_median([cost.seconds_per_image for cost in costs]),
        peak_memory_mb=find_median([cost.peak_memory_mb for cost in costs]),
    )


def pool_seconds(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return every stage's median over the runs of which it is known."""
    return {stage: statistics.median(run[stage] for run in runs if stage in run) for stage in sorted({stage for run in runs for stage in run})}


def find_median(values: Sequence[float | None]) -> float | None:
    """Return the median of what is known."""
    return statistics.median(known) if (known := [value for value in values if value is not None]) else None


def add_users(columns: dict[str, ByUser], result: RunResult, method: str) -> None:
    """Add a run's values of a method by metric."""
    for metric, users in result.by_user[method].items():
        columns.setdefault(metric, {}).update({(result.seed, user): value for user, value in users.items()})
