"""Turn the results of an experiment into rows, and the rows into a CSV file and a page of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.catalogue import Experiment, Group
from experiments.equal_compute import build_compute
from experiments.names import MAIN
from experiments.results import RunResult, compare
from experiments.runs import DEFAULT, Point
from pipeline.metrics.definitions import Metric, define_metrics
from pipeline.metrics.intervals import Interval
from pipeline.report.figures import format_interval, format_value, get_title, judge_difference, sort_methods
from pipeline.spreadsheets import read_csv

CSV_COLUMNS = (
    "group",
    "label",
    "run",
    "experiment",
    "method",
    "metric",
    "seed",
    "value",
    "low",
    "high",
    "n",
    "difference",
    "difference_low",
    "difference_high",
    "difference_n",
)
ARROWS = {True: " ↑", False: " ↓", None: ""}  # which direction is better


@dataclass(frozen=True)
class ResultRow:
    """One figure: a metric of a method in a run, as one group shows it; `difference` is None where there is nothing to compare with."""

    group: str
    point: Point
    experiment: str
    method: str
    metric: Metric
    seed: int
    value: Interval
    difference: Interval | None


def name_row(row: ResultRow, others: Sequence[ResultRow]) -> str:
    """Return the shortest name that tells the row from the others: its point, its method, or both."""
    if len({other.method for other in others}) == 1:
        return row.point.label
    title = get_title(row.method)
    return title if len({other.point for other in others}) == 1 else f"{row.point.label}, {title}"


def build_rows(experiment: Experiment, results: Mapping[str, RunResult]) -> list[ResultRow]:
    """Return a row for every group, point, method and metric; points whose run is not in `results` (by run name) are left out."""
    rows: list[ResultRow] = []
    for group in experiment.groups:
        for point in group.points:
            if point.run.name in results:
                result = results[point.run.name]
                for method in list_methods(group.methods or experiment.methods, result):
                    rows += [build_row(experiment, group, point, method, name, results) for name in experiment.metrics]
    return rows


def list_methods(methods: Sequence[str] | None, result: RunResult) -> list[str]:
    """Return the methods to show, those that the run has drawn, in reading order; None stands for all."""
    wanted = result.by_user if methods is None else [method for method in methods if method in result.by_user]
    return sort_methods(list(wanted))


def build_row(experiment: Experiment, group: Group, point: Point, method: str, name: str, results: Mapping[str, RunResult]) -> ResultRow:
    """Compute one figure and its difference to what the experiment compares with."""
    result = results[point.run.name]
    other = (result, experiment.compared_with) if experiment.compared_with else (results.get(DEFAULT.name), method)
    is_itself = other[0] is None or (other[0].experiment == result.experiment and other[1] == method)
    difference = None if is_itself else compare((result, method), (other[0], other[1]), name)
    return ResultRow(group.title, point, result.experiment, method, result.get_metric(name), result.seed, result.average(method, name), difference)


def list_csv_rows(rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Return the rows as CSV cells; what does not exist is empty."""
    cells = []
    for row in rows:
        difference = asdict(row.difference) if row.difference else {}
        renamed = {("difference" if name == "value" else f"difference_{name}"): value for name, value in difference.items()}
        facts = {"group": row.group, "label": row.point.label, "run": row.point.run.name, "experiment": row.experiment, "method": row.method}
        cell = {**facts, "metric": row.metric.name, "seed": row.seed, **asdict(row.value), **renamed}
        cells.append({name: "" if value is None else value for name, value in cell.items()})
    return cells


def read_csv_rows(experiment: Experiment, path: Path) -> list[ResultRow]:
    """Read the CSV of an experiment back, to the six digits that it holds and without differences; points that are no longer shown are left out."""
    points = {(group.title, point.label, point.run.name): point for group in experiment.groups for point in group.points}
    try:
        return [
            ResultRow(
                group=cell["group"],
                point=points[cell["group"], cell["label"], cell["run"]],
                experiment=cell["experiment"],
                method=cell["method"],
                metric=find_metric(cell["metric"]),
                seed=int(cell["seed"]),
                value=Interval(*(float(cell[name]) if cell[name] else None for name in ("value", "low", "high")), int(cell["n"])),
                difference=None,
            )
            for cell in read_csv(path)
            if (cell["group"], cell["label"], cell["run"]) in points
        ]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not the table that `make {experiment.name}` writes ({error}).") from error


def find_metric(name: str) -> Metric:
    """Return the metric of a column; a perceptual distance is named after its model."""
    return {metric.name: metric for metric in define_metrics(name.rpartition("_")[0])}[name]


def build_page(experiment: Experiment, rows: Sequence[ResultRow], results: Mapping[str, RunResult]) -> str:
    """Return the experiment's page: how it was made, the plot, and a table of values and one of differences per group."""
    missing = [run for run in experiment.list_runs() if run.name not in results]
    first = next(iter(results.values()))
    profiles = ", ".join(sorted({result.profile for result in results.values()}))
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in rows}))
    lines = [
        f"# {experiment.title}",
        "",
        experiment.sentence,
        "",
        f"Made by `make {experiment.name}`. Profile `{profiles}`, seed {seeds}, {format_users(rows)} {experiment.users}. "
        f"{first.level:.0%} intervals: bootstrap over users, {first.num_resamples} resamples. "
        f"Differences: {describe_comparison(experiment)}, paired by user; **bold** where the interval excludes zero.",
        "",
    ]
    if missing:
        lines += [f"Not run: {', '.join(run.name for run in missing)}. `make {experiment.name}` goes on with them.", ""]
    lines += [f"![every value with its interval]({experiment.name}.svg)", ""]
    for group in experiment.groups:
        own = [row for row in rows if row.group == group.title]
        if own:
            lines += build_group(group, own)
    if experiment.shows_compute:
        lines += build_compute(experiment.groups, rows, results)
    return "\n".join([*lines, *build_runs(experiment, results), *build_legend(rows)]) + "\n"


def describe_comparison(experiment: Experiment) -> str:
    """Say what the differences are to."""
    if experiment.compared_with is None:
        return "to the default run"
    return f"to `{get_title(experiment.compared_with)}` of the same run"


def build_group(group: Group, rows: Sequence[ResultRow]) -> list[str]:
    """Return the two tables of a group."""
    title = f"{group.title} ({group.axis})" if group.axis else group.title
    lines = [f"## {title[0].upper()}{title[1:]}", "", *build_grid(rows, differences=False)]
    if any(row.difference for row in rows):
        lines += ["Differences:", "", *build_grid(rows, differences=True)]
    return lines


def build_grid(rows: Sequence[ResultRow], *, differences: bool) -> list[str]:
    """Return one Markdown table: a line per point and method, a column per metric, n at the end."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    lines = [
        f"| | {' | '.join(format_heading(metric) for metric in metrics)} | n |",
        f"|---|{'---:|' * (len(metrics) + 1)}",
    ]
    by_label: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_label.setdefault(name_row(row, rows), []).append(row)
    for label, cells in by_label.items():
        shown = [cell.difference if differences else cell.value for cell in cells]
        if any(interval is not None for interval in shown):
            texts = [format_cell(cell, interval, signed=differences) for cell, interval in zip(cells, shown, strict=True)]
            lines.append(f"| {label} | {' | '.join(texts)} | {format_counts([interval.n for interval in shown if interval])} |")
    return [*lines, ""]


def format_heading(metric: Metric) -> str:
    """Write a metric's title with the direction that is better."""
    return f"{metric.title}{ARROWS[metric.higher_is_better]}"


def format_cell(row: ResultRow, interval: Interval | None, *, signed: bool) -> str:
    """Write a value with its interval; a difference whose interval excludes zero is bold."""
    if interval is None or interval.value is None:
        return "–"
    entry = asdict(interval)
    text = format_value(interval.value, row.metric, signed=signed)
    if signed and judge_difference(entry, row.metric):
        text = f"**{text}**"
    bounds = format_interval(entry, row.metric, signed=signed)
    return f"{text} ({bounds})" if bounds else text


def format_counts(counts: Sequence[int]) -> str:
    """Write n, or its range where a metric lacks some users."""
    known = [count for count in counts if count]
    if not known:
        return "0"
    return str(known[0]) if min(known) == max(known) else f"{min(known)} to {max(known)}"


def format_users(rows: Sequence[ResultRow]) -> str:
    """Write how many users the main method's figures rest on."""
    return format_counts([row.value.n for row in rows if row.method == MAIN] or [0])


def build_runs(experiment: Experiment, results: Mapping[str, RunResult]) -> list[str]:
    """Return the table of runs; one DVC experiment may stand for several runs, whose parameters are the same."""
    lines = ["## Runs", "", "| run | parameters | DVC experiment |", "|---|---|---|"]
    for run in experiment.list_runs():
        if run.name in results:
            overrides = " ".join(f"`{override}`" for override in run.overrides) or "the default"
            lines.append(f"| {run.name} | {overrides} | `{results[run.name].experiment}` |")
    return [*lines, ""]


def build_legend(rows: Sequence[ResultRow]) -> list[str]:
    """Say what each column means."""
    return build_legend_lines(dict.fromkeys(row.metric for row in rows))


def build_legend_lines(metrics: Iterable[Metric]) -> list[str]:
    """Return a line about every metric."""
    return ["## Columns", "", *(f"- {metric.title}: {metric.sentence}" for metric in metrics)]
