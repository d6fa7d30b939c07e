"""What the sections about numbers show: key figures, interval charts, summary table, paired differences, curves, rejects, origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.metrics.definitions import GROUPS, Metric, define_metrics
from pipeline.report.charts import CurveChart, IntervalChart, Mark, lay_out_curve, lay_out_intervals
from pipeline.report.figures import (
    BOUNDS,
    EXPLANATIONS,
    Entry,
    find_best,
    format_interval,
    format_value,
    get_role,
    get_title,
    judge_difference,
    sort_methods,
)
from pipeline.report.inputs import ReportInputs

CHARTED = ("style_accuracy", "concept_accuracy", "*_truth", "cpis", "cis", "log2_rank_gain", "cis_truth", "cps", "cs", "*_pers", "*_sem")
NUM_CHARTS = 6  # the first of those that the run has
FACTS = {"style_accuracy": "drawn in the right style", "concept_accuracy": "show the right thing", "delta_r_check": "rank change ΔR"}
Pairs = list[tuple[str, str]]  # name, value


@dataclass(frozen=True)
class Fact:
    """A key figure at the top of the page."""

    value: str
    title: str
    detail: str


@dataclass(frozen=True)
class Panel:
    """A chart with its heading."""

    title: str
    hint: str
    tooltip: str | None
    chart: IntervalChart | CurveChart


@dataclass(frozen=True)
class Column:
    """A method at the head of a table."""

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


@dataclass(frozen=True)
class MetricRow:
    """A metric's line in a table."""

    metric: Metric
    cells: list[Cell]


def list_metrics(summary: dict[str, Any]) -> list[Metric]:
    """Return the metrics that at least one method has, in table order."""
    known = define_metrics(summary["perceptual"])
    return [metric for metric in known if any(metric.name in entries for entries in summary["methods"].values())]


def get_entries(summary: dict[str, Any], metric: Metric) -> dict[str, dict[str, Any]]:
    """Return one metric's value, low, high and n by method, in reading order."""
    methods = summary["methods"]
    return {method: methods[method][metric.name] for method in sort_methods(list(methods)) if metric.name in methods[method]}


def list_facts(summary: dict[str, Any]) -> list[Fact]:
    """Return the key figures: the main method's, with intervals, and the size of the test."""
    metrics = {metric.name: metric for metric in list_metrics(summary)}
    main = summary["methods"].get(summary["main_method"], {})
    facts = []
    for name, title in FACTS.items():
        if name in metrics and main.get(name, {}).get("value") is not None:
            metric, entry = metrics[name], main[name]
            interval = format_interval(entry, metric)
            detail = f"{summary['interval']['level']:.0%} interval {interval}" if interval else ""
            facts.append(Fact(format_value(entry["value"], metric), title, detail))
    sizes = f"{summary['num_cases']:,} cases, {len(summary['methods'])} methods, seed {summary['seed']}"
    return [*facts, Fact(f"{summary['num_users']:,}", "test user" if summary["num_users"] == 1 else "test users", sizes)]


def list_charts(summary: dict[str, Any]) -> list[Panel]:
    """Return interval charts of the most telling metrics; `*` stands for the perceptual model."""
    metrics = list_metrics(summary)
    names = [name.replace("*", summary["perceptual"]) for name in CHARTED]
    chosen = [name for name in names if name in {metric.name for metric in metrics}][:NUM_CHARTS]
    panels = []
    for metric in (metric for metric in metrics if metric.name in chosen):
        entries = get_entries(summary, metric)
        marks = [build_mark(method, entry, metric, summary) for method, entry in entries.items() if entry["value"] is not None]
        if marks:
            hint = {True: "higher is better", False: "lower is better", None: ""}[metric.higher_is_better]
            chart = lay_out_intervals(marks, label=metric.sentence, limits=(0.0, 100.0) if metric.unit == "%" else None)
            panels.append(Panel(metric.title, hint, metric.sentence, chart))
    return panels


def build_mark(method: str, entry: Entry, metric: Metric, summary: dict[str, Any]) -> Mark:
    """Turn a method's value into a mark in the metric's own scale."""
    low, high = (None if entry[name] is None else entry[name] * metric.scale for name in ("low", "high"))
    role = get_role(method, summary["main_method"])
    return Mark(get_title(method), entry["value"] * metric.scale, low, high, role, format_value(entry["value"], metric))


def list_columns(summary: dict[str, Any]) -> list[Column]:
    """Return the summary table's columns: one per method."""
    methods = sort_methods(list(summary["methods"]))
    return [Column(get_title(m), BOUNDS.get(m) or EXPLANATIONS.get(m, ""), get_role(m, summary["main_method"])) for m in methods]


def group_rows(summary: dict[str, Any]) -> list[tuple[str, list[MetricRow]]]:
    """Return the summary table's rows, one per metric, under the titles of their groups."""
    rows = [build_metric_row(metric, summary) for metric in list_metrics(summary)]
    groups = [(group, [row for row in rows if row.metric.group == group]) for group in GROUPS]
    return [(group, own) for group, own in groups if own]


def build_metric_row(metric: Metric, summary: dict[str, Any]) -> MetricRow:
    """Return one metric's row of the summary table: the best drawn method bold."""
    entries = get_entries(summary, metric)
    best = find_best(entries, metric)
    cells = []
    for method in sort_methods(list(summary["methods"])):
        role, entry = get_role(method, summary["main_method"]), entries.get(method)
        if entry is None:
            cells.append(Cell("–", look=role))
        else:
            look = f"{role} best" if method in best else role
            cells.append(Cell(format_value(entry["value"], metric), format_interval(entry, metric), look, f"n = {entry['n']} {metric.counted}"))
    return MetricRow(metric, cells)


def list_differences(summary: dict[str, Any]) -> tuple[list[str], list[MetricRow]]:
    """Return the table of paired differences between the main method and every other one: titles of the columns, and rows."""
    differences = summary.get("differences") or {}
    methods = sort_methods(list(differences))
    main = get_title(summary["main_method"])
    metrics = [metric for metric in list_metrics(summary) if metric.higher_is_better is not None]
    rows = [MetricRow(metric, [build_difference(differences[method].get(metric.name), metric) for method in methods]) for metric in metrics]
    return [f"{main} − {get_title(method)}" for method in methods], rows


def build_difference(entry: Entry | None, metric: Metric) -> Cell:
    """Return a difference with its interval."""
    if entry is None or entry["value"] is None:
        return Cell("–")
    text, interval = format_value(entry["value"], metric, signed=True), format_interval(entry, metric, signed=True)
    return Cell(text, interval, judge_difference(entry, metric), f"n = {entry['n']} {metric.counted}")


def list_curves(inputs: ReportInputs) -> list[tuple[str, list[Panel]]]:
    """Return the training curves, one chart per column, by stage."""
    stages = []
    for stage, curves in inputs.curves.items():
        panels = [
            Panel(
                name.replace("_", " "),
                f"{points[0][1]:.3g} → {points[-1][1]:.3g}",
                None,
                lay_out_curve(points, label=f"{stage}: {name}", x_name=curves.x_name),
            )
            for name, points in curves.columns.items()
        ]
        if panels:
            stages.append((stage.replace("_", " ").capitalize(), panels))
    return stages


def list_counts(dataset: dict[str, Any]) -> Pairs:
    """Return the data set's counts: what is there, beside the paper's Table 2 where it has the set, and what is missing."""
    if not dataset:
        return []
    cases = ", ".join(f"{count:,} {split}" for split, count in dataset["cases"].items())
    pairs = [(name, f"{dataset[name]:,}") for name in ("items", "users", "interactions")] + [("cases", cases)]
    for name, entry in sorted(dataset.get("table_2", {}).items()):
        pairs.append((f"{name} in the paper's Table 2", f"{entry['paper']:,}; here {entry['found']:,} ({entry['deviation']:+.1%})"))
    missing = dataset.get("missing_images", 0)
    named = dataset["items"] + missing
    pairs.append(("items left out for lack of a readable image", f"{missing:,} of {named:,}" + (f" ({missing / named:.1%})" if missing else "")))
    others = sorted(set(dataset) - {"items", "users", "interactions", "cases", "missing_images"})
    return pairs + [(name.replace("_", " "), f"{dataset[name]:,}") for name in others if isinstance(dataset[name], int)]


def list_origin(inputs: ReportInputs) -> Pairs:
    """Return where the numbers come from: models, package versions, what was left out."""
    summary = inputs.summary
    skipped = summary.get("skipped", {})
    return [
        ("profile", summary["profile"]),
        ("seed", str(summary["seed"])),
        ("intervals", f"{summary['interval']['level']:.0%} percentile bootstrap over users, {summary['interval']['num_resamples']:,} resamples"),
        ("compared at", f"{summary['image_size']} px, history: {summary['history']}, item text: {summary['text']}"),
        ("left out", ", ".join(f"{name.replace('_', ' ')}: {format_count(value)}" for name, value in sorted(skipped.items()))),
        *((f"model: {role}", name) for role, name in sorted(summary["models"].items())),
        *((f"package: {name}", version) for name, version in sorted(inputs.provenance.get("packages", {}).items())),
    ]


def format_count(value: object) -> str:
    """Write a number, or the total of counts by name."""
    return str(sum(value.values()) if isinstance(value, dict) else value)


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> Pairs:
    """Return (dotted name, value) pairs of nested params in order."""
    pairs: Pairs = []
    for name, value in params.items():
        if isinstance(value, Mapping):
            pairs.extend(flatten_params(value, f"{prefix}{name}."))
        else:
            pairs.append((f"{prefix}{name}", str(value)))
    return pairs
