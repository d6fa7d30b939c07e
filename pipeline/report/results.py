"""What the sections about results show: headlines with a word, interval charts, the table of all metrics, paired differences.

Methods whose figures are all the same have drawn the same pictures: they share a column. Rows that are the same for every method are folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.metrics.definitions import GROUPS, Metric, define_metrics
from pipeline.report.charts import CurveChart, IntervalChart, Mark, lay_out_intervals
from pipeline.report.figures import BOUNDS, EXPLANATIONS, Entry, find_best, format_interval, format_value, get_role, get_title, order_columns
from pipeline.report.verdicts import (
    compare_headline,
    describe_difference,
    find_difference,
    holds_by_definition,
    judge,
    list_headlines,
    list_rivals,
)

CHARTED = ("style_accuracy", "concept_accuracy", "*_truth", "cpis", "cis", "log2_rank_gain", "cis_truth", "cps", "cs", "*_pers", "*_sem")
NUM_CHARTS = 6  # the first of those that the run has
DETAILS = EXPLANATIONS | {"original": "the catalogue's own picture"}
Methods = list[tuple[str, ...]]  # in the order of columns; those with the same figures together


@dataclass(frozen=True)
class Fact:
    """A key figure at the top of the page; `word` says what it is worth, `rest` compared with what; `look` is the word's CSS class."""

    value: str
    title: str
    detail: str
    word: str = ""
    rest: str = ""
    look: str = ""


@dataclass(frozen=True)
class Panel:
    """A chart with its heading."""

    title: str
    hint: str
    tooltip: str | None
    chart: IntervalChart | CurveChart


@dataclass(frozen=True)
class Column:
    """A method, or several with the same figures, at the head of a table."""

    title: str
    detail: str
    role: str


@dataclass(frozen=True)
class Cell:
    """A value with its interval; `look` holds CSS classes."""

    text: str
    interval: str = ""
    look: str = ""
    tooltip: str | None = None
    word: str = ""


@dataclass(frozen=True)
class MetricRow:
    """A metric's line in a table."""

    metric: Metric
    cells: list[Cell]


def list_metrics(summary: dict[str, Any]) -> list[Metric]:
    """Return the metrics that at least one method has a value of, in table order."""
    known = define_metrics(summary["perceptual"])
    return [metric for metric in known if any(get_value(entries, metric) is not None for entries in summary["methods"].values())]


def get_value(entries: dict[str, Entry], metric: Metric) -> float | None:
    """Return a method's value of a metric."""
    return entries[metric.name]["value"] if metric.name in entries else None


def group_methods(summary: dict[str, Any]) -> Methods:
    """Return the methods in the order of columns; those whose figures are all the same stand together."""
    groups: Methods = []
    for method in order_columns(list(summary["methods"]), summary["main_method"]):
        entries = summary["methods"][method]
        is_measured = any(entry["value"] is not None for entry in entries.values())
        same = next((index for index, group in enumerate(groups) if is_measured and summary["methods"][group[0]] == entries), None)
        if same is None:
            groups.append((method,))
        else:
            groups[same] += (method,)
    return groups


def join_titles(methods: Sequence[str]) -> str:
    """Return the name of a column."""
    return " = ".join(get_title(method) for method in methods)


def list_facts(summary: dict[str, Any]) -> list[Fact]:
    """Return the key figures: the main method's, each with its interval and a word, and the size of the test."""
    main, level = summary["methods"].get(summary["main_method"], {}), summary["interval"]["level"]
    facts = []
    for metric, headline in list_headlines(summary):
        interval = format_interval(main[metric.name], metric)
        detail = f"{level:.0%} interval {interval}" if interval else ""
        compared = compare_headline(summary, metric, headline)
        word, rest, look = (compared[0].word, compared[1], compared[0].look) if compared else ("", "", "")
        facts.append(Fact(format_value(main[metric.name]["value"], metric), headline.words, detail, word, rest, look))
    sizes = f"{summary['num_cases']:,} cases, {len(summary['methods'])} methods, seed {summary['seed']}"
    return [*facts, Fact(f"{summary['num_users']:,}", "held-out user" if summary["num_users"] == 1 else "held-out users", sizes)]


def list_charts(summary: dict[str, Any]) -> list[Panel]:
    """Return interval charts of the most telling metrics whose values are not all zero; `*` stands for the perceptual model."""
    names = [name.replace("*", summary["perceptual"]) for name in CHARTED]
    metrics = {metric.name: metric for metric in list_metrics(summary) if not is_folded(metric, summary)}
    chosen = [name for name in names if name in metrics][:NUM_CHARTS]
    panels = []
    for metric in (metric for name, metric in metrics.items() if name in chosen):
        marks = [mark for methods in group_methods(summary) if (mark := build_mark(methods, metric, summary)) is not None]
        hint = {True: "higher is better", False: "lower is better", None: ""}[metric.higher_is_better]
        chart = lay_out_intervals(marks, label=metric.sentence, limits=(0.0, 100.0) if metric.unit == "%" else None)
        panels.append(Panel(metric.title, hint, metric.sentence, chart))
    return panels


def build_mark(methods: Sequence[str], metric: Metric, summary: dict[str, Any]) -> Mark | None:
    """Turn the value of methods with the same figures into a mark in the metric's own scale; None without a value."""
    entry = summary["methods"][methods[0]].get(metric.name)
    if entry is None or entry["value"] is None:
        return None
    low, high = (None if entry[name] is None else entry[name] * metric.scale for name in ("low", "high"))
    role, others = get_role(methods[0], summary["main_method"]), f", +{len(methods) - 1}" if len(methods) > 1 else ""
    return Mark(get_title(methods[0]) + others, entry["value"] * metric.scale, low, high, role, format_value(entry["value"], metric))


def list_columns(summary: dict[str, Any]) -> list[Column]:
    """Return the columns of the table of all metrics: one per method, or several with the same figures."""
    columns = []
    for methods in group_methods(summary):
        detail = DETAILS.get(methods[0], "") if len(methods) == 1 else "the same pictures"
        columns.append(Column(join_titles(methods), detail, get_role(methods[0], summary["main_method"])))
    return columns


def is_folded(metric: Metric, summary: dict[str, Any]) -> bool:
    """Say whether a row tells nothing: as written, every method's value is zero, or the same as every other's."""
    values = [value for entries in summary["methods"].values() if (value := get_value(entries, metric)) is not None]
    written = {format_value(value, metric) for value in values}
    return len(written) == 1 and (len(values) > 1 or written == {format_value(0.0, metric)})


def list_folded(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the titles of the folded rows, each with the value that every method has."""
    folded = []
    for metric in list_metrics(summary):
        if is_folded(metric, summary):
            value = next(value for entries in summary["methods"].values() if (value := get_value(entries, metric)) is not None)
            folded.append((metric.title, format_value(value, metric)))
    return folded


def group_rows(summary: dict[str, Any]) -> list[tuple[str, list[MetricRow]]]:
    """Return the rows of the table of all metrics, under the titles of their groups."""
    rows = [build_metric_row(metric, summary) for metric in list_metrics(summary) if not is_folded(metric, summary)]
    groups = [(group, [row for row in rows if row.metric.group == group]) for group in GROUPS]
    return [(group, own) for group, own in groups if own]


def build_metric_row(metric: Metric, summary: dict[str, Any]) -> MetricRow:
    """Return one metric's row: the best drawn method bold, if there are users enough for intervals."""
    entries = {method: own[metric.name] for method, own in summary["methods"].items() if metric.name in own}
    best = find_best(entries, metric) if any(entry["low"] is not None for entry in entries.values()) else set()
    cells = []
    for methods in group_methods(summary):
        role, entry = get_role(methods[0], summary["main_method"]), entries.get(methods[0])
        if entry is None or entry["value"] is None:
            cells.append(Cell("–", look=role, tooltip="There is no value."))
        elif holds_by_definition(methods[0], metric, summary):
            cells.append(Cell(format_value(entry["value"], metric), "by definition", role, "This value was not measured: it holds by definition."))
        else:
            look = f"{role} best" if methods[0] in best else role
            cells.append(Cell(format_value(entry["value"], metric), format_interval(entry, metric), look, describe_count(entry["n"], metric)))
    return MetricRow(metric, cells)


def describe_count(number: int, metric: Metric) -> str:
    """Say of how many users, pairs of users or images a figure is."""
    return f"This is {metric.summed_up} of {number:,} {metric.counted.removesuffix('s') if number == 1 else metric.counted}."


def list_rival_columns(summary: dict[str, Any]) -> list[Column]:
    """Return the columns of the tables of comparisons: the other methods; `detail` says of which value the difference is."""
    rivals = group_rivals(summary)
    return [Column(join_titles(methods), DETAILS.get(methods[0], "") if methods[0] in BOUNDS else "", "") for methods in rivals]


def group_rivals(summary: dict[str, Any]) -> Methods:
    """Return the methods that the main one is compared with, those with the same figures together; none that has the main one's own figures."""
    rivals = set(list_rivals(summary))
    groups = [group for group in group_methods(summary) if summary["main_method"] not in group]
    return [own for group in groups if (own := tuple(method for method in group if method in rivals))]


def list_comparisons(summary: dict[str, Any], metrics: Sequence[Metric]) -> list[MetricRow]:
    """Return a row of comparisons for every metric with at least one that does not hold by definition and a value that is not the same everywhere."""
    rivals = group_rivals(summary)
    rows = []
    for metric in metrics:
        entries = [find_difference(summary, methods[0], metric) for methods in rivals]
        if any(entry is not None for entry in entries) and not is_folded(metric, summary):
            rows.append(MetricRow(metric, [build_comparison(entry, metric) for entry in entries]))
    return rows


def build_comparison(entry: Entry | None, metric: Metric) -> Cell:
    """Return a difference in a word, with its value and interval."""
    if entry is None:
        return Cell("", tooltip="This comparison is left out: it could come out only one way, or there is no value.")
    verdict, (text, interval) = judge(entry, metric), describe_difference(entry, metric)
    return Cell(text, interval, verdict.look, describe_count(entry["n"], metric), verdict.word)


def list_headline_rows(summary: dict[str, Any]) -> list[MetricRow]:
    """Return the comparisons of the headlines."""
    return list_comparisons(summary, [metric for metric, _ in list_headlines(summary)])


def list_differences(summary: dict[str, Any]) -> list[MetricRow]:
    """Return the comparisons of all metrics."""
    return list_comparisons(summary, list_metrics(summary))
