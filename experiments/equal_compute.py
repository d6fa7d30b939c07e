"""What the methods of an experiment cost beside RAGAR, so that step counts at equal compute can be read off its page.

A training that goes user by user (TI) grows with the users that are drawn. In a run on few validation users it is therefore scaled to as many users
as the default run tests; what is trained once for all (PMG, RAGAR) counts as it is, RAGAR with the keywords and the ranker that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.catalogue import Group
from experiments.names import MAIN
from experiments.results import RunResult
from experiments.runs import DEFAULT, Point
from pipeline.report.figures import get_title

if TYPE_CHECKING:
    from experiments.tables import ResultRow

NOTE = (
    "Seconds of the clock on this machine: the method's own training, scaled to these users where it goes user by user, and an image for each. "
    "RAGAR's training also holds the ranker and the items' keywords; what the language model takes to name PMG's is counted for nobody."
)
RAGAR_STAGES = ("keywords", "ranker")  # in whose stages nothing else is done


@dataclass(frozen=True)
class Effort:
    """Seconds that a method takes for all users; None where the run did not record them."""

    training: float | None
    image: float | None  # one of them
    total: float | None  # training, and an image for every user


def build_compute(groups: Sequence[Group], rows: Sequence[ResultRow], results: Mapping[str, RunResult]) -> list[str]:
    """Return the table of costs, and for every sweep the largest point that costs no more than RAGAR."""
    shown = dict.fromkeys((row.group, row.point, row.method) for row in rows)
    num_users = count_users(results[DEFAULT.name]) if DEFAULT.name in results else None
    lines = [f"## Compute{f' for {num_users} test users' if num_users else ''}", "", "| | training, s | an image, s | total, s | of RAGAR's |"]
    lines += ["|---|---:|---:|---:|---:|"]
    findings = []
    for group in groups:
        ratios = {}
        for point, method in [(point, method) for title, point, method in shown if title == group.title]:
            effort, ragar = (measure(results[point.run.name], name, num_users) for name in (method, MAIN))
            ratios[point] = effort.total / ragar.total if effort.total is not None and ragar.total else None
            lines.append(format_effort(group, point, method, effort, ratios[point]))
        if group.axis and any(ratio is not None for ratio in ratios.values()):
            within = [point.label for point, ratio in ratios.items() if ratio is not None and ratio <= 1]
            found = f"no more than RAGAR up to {within[-1]} {group.axis}" if within else f"more than RAGAR already with the fewest {group.axis}"
            findings.append(f"- {group.title} costs {found}.")
    return [*lines, "", NOTE, "", *findings, *([""] if findings else [])]


def measure(result: RunResult, method: str, num_users: int | None) -> Effort:
    """Work out what a method costs for `num_users` users, or for the run's own."""
    cost, own_users = result.costs.get(method), count_users(result)
    if cost is None or cost.training_seconds is None or cost.seconds_per_image is None or not own_users:
        return Effort(None, None, None)
    users = num_users or own_users
    training = cost.training_seconds * (users / own_users if cost.grows_with_users else 1)
    if method == MAIN:
        training += sum(result.stage_seconds.get(stage, 0.0) for stage in RAGAR_STAGES)
    return Effort(training, cost.seconds_per_image, training + users * cost.seconds_per_image)


def count_users(result: RunResult) -> int:
    """Return how many users a run has drawn with RAGAR."""
    return max((len(by_user) for by_user in result.by_user.get(MAIN, {}).values()), default=0)


def format_effort(group: Group, point: Point, method: str, effort: Effort, ratio: float | None) -> str:
    """Return a line of the table."""
    name = get_title(method) if method == MAIN else f"{get_title(method)}, {' '.join(filter(None, [point.label, group.axis]))}"
    cells = [(effort.training, ".1f"), (effort.image, ".3f"), (effort.total, ".1f"), (ratio, ".2f")]
    return f"| {name} | {' | '.join('–' if value is None else format(value, digits) for value, digits in cells)} |"
