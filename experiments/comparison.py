"""One table of methods by metrics: means with intervals over the same users, the best two, and paired tests against RAGAR.

Only users that every drawn method has an image for are counted, so that all rows speak of the same people.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from experiments.catalogue import Experiment
from experiments.names import MAIN
from experiments.results import ByUser, RunResult
from pipeline.metrics.definitions import Metric
from pipeline.metrics.intervals import Interval
from pipeline.metrics.significance import adjust_holm, compute_flip_p
from pipeline.report.figures import BOUNDS, format_value, sort_methods

ALPHA = 0.05  # of the family of all tests of the table


@dataclass(frozen=True)
class Cell:
    """One figure; the difference is RAGAR's minus the method's, None for RAGAR itself and where there is nothing to compare."""

    method: str
    metric: Metric
    value: Interval
    place: int | None  # 1 = best, 2 = second, of the drawn methods
    difference: Interval | None = None
    p: float | None = None
    p_holm: float | None = None  # adjusted over all tests of the table

    @property
    def verdict(self) -> str:
        """Say whether RAGAR is significantly `better` or `worse` than this method, or neither."""
        if self.p_holm is None or self.p_holm >= ALPHA or self.difference is None or self.difference.value is None:
            return ""
        return "better" if (self.difference.value > 0) == self.metric.higher_is_better else "worse"


def list_methods(experiment: Experiment, result: RunResult) -> list[str]:
    """Return the experiment's methods that the run has drawn, in reading order."""
    return sort_methods([method for method in experiment.methods or tuple(result.by_user) if method in result.by_user])


def compare_methods(experiment: Experiment, result: RunResult) -> dict[tuple[str, str], Cell]:
    """Return the table by (method, metric name as the experiment writes it); metrics that no method has are left out."""
    methods = list_methods(experiment, result)
    values = {name: gather_values(methods, name, result) for name in experiment.metrics}
    values = {name: by_method for name, by_method in values.items() if any(by_method.values())}
    tests = list_tests(methods, values, result)
    adjusted = dict(zip(tests, adjust_holm(list(tests.values())), strict=True))
    cells = {}
    for name, by_method in values.items():
        metric = result.get_metric(name)
        means = {method: result.compute_interval(by_user) for method, by_user in by_method.items()}
        places = rank_methods(means, metric)
        for method, mean in means.items():
            key = (method, name)
            difference = result.compare_users(by_method[MAIN], by_method[method]) if key in tests else None
            cells[key] = Cell(method, metric, mean, places.get(method), difference, tests.get(key), adjusted.get(key))
    return cells


def gather_values(methods: Sequence[str], name: str, result: RunResult) -> dict[str, ByUser]:
    """Return a metric by method and user, for the users that every drawn method has."""
    values = {method: result.get_users(method, name) for method in methods}
    drawn = [by_user for method, by_user in values.items() if method not in BOUNDS]
    shared: set[Hashable] = set.intersection(*(set(by_user) for by_user in drawn)) if drawn else set()
    return {method: {user: value for user, value in by_user.items() if user in shared} for method, by_user in values.items()}


def list_tests(methods: Sequence[str], values: dict[str, dict[str, ByUser]], result: RunResult) -> dict[tuple[str, str], float]:
    """Return the p-value of every drawn method against RAGAR, by (method, metric)."""
    tests = {}
    for name, by_method in values.items():
        for method in methods:
            if MAIN in by_method and method != MAIN and method not in BOUNDS:
                p = compute_flip_p(by_method[MAIN], by_method[method], seed=result.seed)
                if p is not None:
                    tests[method, name] = p
    return tests


def rank_methods(means: dict[str, Interval], metric: Metric) -> dict[str, int]:
    """Return 1 for the drawn methods with the best value and 2 for those with the second, as they are written."""
    drawn = {method: mean.value for method, mean in means.items() if method not in BOUNDS and mean.value is not None}
    if metric.higher_is_better is None:
        return {}
    written = {method: format_value(value, metric) for method, value in drawn.items()}
    order = list(dict.fromkeys(written[method] for method in sorted(drawn, key=lambda name: drawn[name], reverse=metric.higher_is_better)))
    return {method: order.index(text) + 1 for method, text in written.items() if text in order[:2]}
