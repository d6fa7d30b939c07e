"""What the sections about a run show beside its results: training curves, the data set's counts, where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.charts import lay_out_curve
from pipeline.report.inputs import ReportInputs
from pipeline.report.results import Panel

Pairs = list[tuple[str, str]]  # name, value


def describe_measured(inputs: ReportInputs) -> str:
    """Say over which users the figures are, and which others are drawn without being measured."""
    summary = inputs.summary
    users, profile = count_things(summary["num_users"], "held-out user"), summary["profile"]
    others = {split: count for split, count in inputs.num_drawn.items() if split != summary["split"]}
    sentence = f"Measured over {users} (the split {summary['split']}), {profile} profile."
    if not others:
        return sentence
    total = sum(others.values())
    named = ", ".join(f"{count:,} {split}" for split, count in others.items())
    verb = "is" if total == 1 else "are"
    return f"{sentence} {count_things(total, 'other user')} ({named}) {verb} drawn and not measured: the models have learned from them."


def describe_shown(inputs: ReportInputs) -> str:
    """Say how many of the users who have a picture are on the page; nothing if all are."""
    total, shown = sum(inputs.num_drawn.values()), len(inputs.shown.cases)
    return f"{shown:,} of {total:,} users are on this page, chosen by the seed; -S report.num_users={total} shows all." if shown < total else ""


def count_things(count: int, name: str) -> str:
    """Write a number and what it counts."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


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
    domain = [("pictures and texts", f"{inputs.domain.summary}.")] if inputs.domain else []
    return [
        ("profile", summary["profile"]),
        ("seed", str(summary["seed"])),
        ("intervals", f"{summary['interval']['level']:.0%} percentile bootstrap over users, {summary['interval']['num_resamples']:,} resamples"),
        ("compared at", f"{summary['image_size']} px, history: {summary['history']}, item text: {summary['text']}"),
        ("left out", ", ".join(f"{name.replace('_', ' ')}: {format_count(value)}" for name, value in sorted(skipped.items()))),
        *domain,
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
