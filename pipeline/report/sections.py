"""The page's sections about numbers: key figures, interval charts, summary table, paired differences, curves, rejects, origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.metrics.definitions import GROUPS, Metric, define_metrics
from pipeline.report.charts import Mark, draw_curve, draw_intervals
from pipeline.report.figures import (
    BOUNDS,
    EXPLANATIONS,
    find_best,
    format_interval,
    format_value,
    get_role,
    get_title,
    judge_difference,
    sort_methods,
)
from pipeline.report.inputs import ReportInputs, flatten_params
from pipeline.report.markup import Markup, element, join

CHARTED = ("style_accuracy", "concept_accuracy", "*_truth", "cpis", "cis", "log2_rank_gain", "cis_truth", "cps", "cs", "*_pers", "*_sem")
NUM_CHARTS = 6  # the first of those that the run has
FACTS = ("style_accuracy", "concept_accuracy", "delta_r")


def list_metrics(summary: dict[str, Any]) -> list[Metric]:
    """Return the metrics that at least one method has, in table order."""
    known = define_metrics(summary["perceptual"])
    return [metric for metric in known if any(metric.name in entries for entries in summary["methods"].values())]


def get_entries(summary: dict[str, Any], metric: Metric) -> dict[str, dict[str, Any]]:
    """Return one metric's value, low, high and n by method, in reading order."""
    methods = summary["methods"]
    return {method: methods[method][metric.name] for method in sort_methods(list(methods)) if metric.name in methods[method]}


def build_facts(summary: dict[str, Any]) -> Markup:
    """Build the key figures at the top: the main method's, with intervals, and the size of the test."""
    metrics = {metric.name: metric for metric in list_metrics(summary)}
    main = summary["methods"].get(summary["main_method"], {})
    cells = []
    for name in FACTS:
        if name in metrics and main.get(name, {}).get("value") is not None:
            metric, entry = metrics[name], main[name]
            reach = f"95% interval {format_interval(entry, metric)}" if summary["interval"]["level"] == 0.95 else format_interval(entry, metric)
            title = {"style_accuracy": "drawn in the right style", "concept_accuracy": "show the right thing"}.get(name, "rank change ΔR")
            text = element("b", format_value(entry["value"], metric)), element("span", title), element("span", reach)
            cells.append(element("div", *text, class_="fact main" if not cells else "fact"))
    sizes = f"{summary['num_cases']:,} cases, {len(summary['methods'])} methods, seed {summary['seed']}"
    cells.append(element("div", element("b", f"{summary['num_users']:,}"), element("span", "test users"), element("span", sizes), class_="fact"))
    return element("div", *cells, class_="facts")


def build_charts(summary: dict[str, Any]) -> Markup:
    """Build interval charts of the most telling metrics; `*` stands for the perceptual model."""
    metrics = list_metrics(summary)
    names = [name.replace("*", summary["perceptual"]) for name in CHARTED]
    chosen = [name for name in names if name in {metric.name for metric in metrics}][:NUM_CHARTS]
    panels = []
    for metric in (metric for metric in metrics if metric.name in chosen):
        marks = [
            Mark(
                label=get_title(method),
                value=entry["value"] * metric.scale,
                low=None if entry["low"] is None else entry["low"] * metric.scale,
                high=None if entry["high"] is None else entry["high"] * metric.scale,
                role=get_role(method, summary["main_method"]),
                text=format_value(entry["value"], metric),
            )
            for method, entry in get_entries(summary, metric).items()
            if entry["value"] is not None
        ]
        limits = (0.0, 100.0) if metric.unit == "%" else None
        if marks:
            hint = {True: "higher is better", False: "lower is better", None: ""}[metric.higher_is_better]
            heading = element("h3", metric.title, element("small", hint), title=metric.sentence)
            panels.append(element("div", heading, draw_intervals(marks, label=metric.sentence, limits=limits), class_="panel"))
    return element("div", *panels, class_="panels") if panels else Markup("")


def build_table(summary: dict[str, Any]) -> Markup:
    """Build the summary table: a row a metric, a column a method, the best drawn method bold, intervals small."""
    methods = sort_methods(list(summary["methods"]))
    roles = {method: get_role(method, summary["main_method"]) for method in methods}
    head = [element("th", "")]
    for method in methods:
        below = BOUNDS.get(method) or EXPLANATIONS.get(method, "")
        head.append(element("th", get_title(method), element("small", below), class_=f"number {roles[method]}"))
    rows = []
    metrics = list_metrics(summary)
    for group in GROUPS:
        chosen = [metric for metric in metrics if metric.group == group]
        if chosen:
            rows.append(element("tr", element("th", group, colspan=len(methods) + 1), class_="group"))
            rows.extend(build_metric_row(metric, get_entries(summary, metric), methods, roles) for metric in chosen)
    return element("div", element("table", element("thead", element("tr", *head)), element("tbody", *rows)), class_="scroll")


def build_metric_row(metric: Metric, entries: dict[str, dict[str, Any]], methods: Sequence[str], roles: dict[str, str]) -> Markup:
    """Build one metric's row of the summary table."""
    arrow = {True: "↑", False: "↓", None: ""}[metric.higher_is_better]
    cells = [element("th", metric.title, element("span", arrow, class_="arrow"), title=metric.sentence)]
    best = find_best(entries, metric)
    for method in methods:
        entry = entries.get(method)
        if entry is None:
            cells.append(element("td", "–", class_=f"number {roles[method]}"))
            continue
        names = f"number {roles[method]}{' best' if method in best else ''}"
        small = element("small", format_interval(entry, metric)) if entry["low"] is not None else ""
        cells.append(element("td", format_value(entry["value"], metric), small, class_=names, title=f"n = {entry['n']} users"))
    return element("tr", *cells)


def build_differences(summary: dict[str, Any]) -> Markup:
    """Build the table of paired differences between the main method and every other one."""
    differences = summary.get("differences") or {}
    methods = sort_methods(list(differences))
    if not methods:
        return Markup("")
    main = get_title(summary["main_method"])
    head = [element("th", "")] + [element("th", f"{main} − {get_title(method)}", class_="number") for method in methods]
    rows = []
    for metric in list_metrics(summary):
        if metric.higher_is_better is None:
            continue
        cells = [element("th", metric.title, element("small", f" {metric.group}"), title=metric.sentence)]
        for method in methods:
            entry = differences[method].get(metric.name)
            if entry is None or entry["value"] is None:
                cells.append(element("td", "–", class_="number"))
                continue
            text = format_value(entry["value"], metric, signed=True), element("small", format_interval(entry, metric, signed=True))
            cells.append(element("td", *text, class_=f"number {judge_difference(entry, metric)}", title=f"n = {entry['n']} users"))
        rows.append(element("tr", *cells))
    table = element("div", element("table", element("thead", element("tr", *head)), element("tbody", *rows)), class_="scroll")
    note = element("p", "Green and red: the interval of the difference, paired by user, excludes zero.", class_="key")
    return element("details", element("summary", f"Paired differences between {main} and the others"), table, note)


def build_curves(inputs: ReportInputs) -> Markup:
    """Build the training curves, one small chart a column, grouped by stage."""
    blocks = []
    for stage, curves in inputs.curves.items():
        panels = []
        for name, points in curves.columns.items():
            first, last = points[0][1], points[-1][1]
            heading = element("h3", name.replace("_", " "), element("small", f"{first:.3g} → {last:.3g}"))
            panels.append(element("div", heading, draw_curve(points, label=f"{stage}: {name}", x_name=curves.x_name), class_="panel"))
        if panels:
            blocks.append(join(element("h3", stage.replace("_", " ").capitalize(), class_="stage"), element("div", *panels, class_="panels curves")))
    return join(*blocks)


def build_counts(dataset: dict[str, Any]) -> Markup:
    """Build the table of the data set's counts: what is there, beside the paper's Table 2 where it has the set, and what is missing."""
    if not dataset:
        return Markup("")
    cases = ", ".join(f"{count:,} {split}" for split, count in dataset["cases"].items())
    pairs = [(name, f"{dataset[name]:,}") for name in ("items", "users", "interactions")] + [("cases", cases)]
    for name, entry in sorted(dataset.get("table_2", {}).items()):
        pairs.append((f"{name} in the paper's Table 2", f"{entry['paper']:,}; here {entry['found']:,} ({entry['deviation']:+.1%})"))
    missing = dataset.get("missing_images", 0)
    named = dataset["items"] + missing
    pairs.append(("items left out for lack of a readable image", f"{missing:,} of {named:,}" + (f" ({missing / named:.1%})" if missing else "")))
    others = sorted(set(dataset) - {"items", "users", "interactions", "cases", "missing_images"})
    pairs += [(name.replace("_", " "), f"{dataset[name]:,}") for name in others if isinstance(dataset[name], int)]
    return build_pairs(pairs)


def build_rejected(rejected: Sequence[dict[str, str]], limit: int) -> Markup:
    """Build the table of rejected rows: the count of every stage, and the first `limit` rows of each with their reasons."""
    if not rejected:
        return element("p", "No row was rejected by any stage.", class_="note")
    counts = Counter(row["stage"] for row in rejected)
    blocks = []
    for stage in sorted(counts):
        rows = [row for row in rejected if row["stage"] == stage][:limit]
        body = [element("tr", element("td", element("code", row["row_key"])), element("td", row["reason"], class_="wrap")) for row in rows]
        rest = counts[stage] - len(rows)
        more = element("p", f"and {rest:,} more", class_="key") if rest else ""
        head = element("thead", element("tr", element("th", "row"), element("th", "why")))
        table = element("div", element("table", head, element("tbody", *body)), class_="scroll")
        title = element("summary", f"{stage} ", element("span", f"{counts[stage]:,} rejected"))
        blocks.append(element("details", title, table, more, open="" if len(rejected) <= limit else None))
    return join(*blocks)


def build_origin(inputs: ReportInputs) -> Markup:
    """Build the tables that say where the numbers come from: models, package versions, params, what was left out."""
    summary = inputs.summary
    skipped = summary.get("skipped", {})
    facts = {
        "profile": summary["profile"],
        "seed": summary["seed"],
        "intervals": f"{summary['interval']['level']:.0%} percentile bootstrap over users, {summary['interval']['num_resamples']:,} resamples",
        "compared at": f"{summary['image_size']} px, history: {summary['history']}, item text: {summary['text']}",
        "left out": ", ".join(f"{name.replace('_', ' ')}: {format_count(value)}" for name, value in sorted(skipped.items())),
        **{f"model: {role}": name for role, name in sorted(summary["models"].items())},
        **{f"package: {name}": version for name, version in sorted(inputs.provenance.get("packages", {}).items())},
    }
    params = flatten_params(inputs.params)
    return join(
        build_pairs(list(facts.items())),
        element("details", element("summary", "Params ", element("span", f"{len(params)} values")), build_pairs(params)),
    )


def format_count(value: object) -> str:
    """Write a number, or the total of counts by name."""
    return str(sum(value.values()) if isinstance(value, dict) else value)


def build_pairs(pairs: Sequence[tuple[str, Any]]) -> Markup:
    """Build a table of names and values."""
    rows = [element("tr", element("th", name), element("td", element("code", value), class_="wrap")) for name, value in pairs]
    return element("div", element("table", element("tbody", *rows)), class_="scroll")
