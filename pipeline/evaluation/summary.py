"""Summarise scores per method and metric: mean, 95% bootstrap interval over users, and paired differences.

Not in the paper, which prints means without n. A case that lacks a score is left out of that metric and counted by n.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.inputs import Task
from pipeline.metrics.assignment import compute_assignment_p
from pipeline.metrics.definitions import Metric
from pipeline.metrics.intervals import Interval, average_by_user, compute_mean_interval, compute_paired_interval

HEADLINES = (
    "style_accuracy",
    "concept_accuracy",
    "concept_top5",
    "pair_choice_judge",
    "nearest_truth_judge",
    "cis_truth",
    "cpis",
    "cis",
    "delta_r",
    "delta_r_check",
)
CSV_COLUMNS = ("method", "metric", "value", "low", "high", "n")


def group_by_user(scores: pa.Table, metrics: tuple[Metric, ...]) -> dict[str, dict[str, dict[Any, float]]]:
    """Return method -> metric -> user_id -> mean over that user's cases."""
    rows = scores.to_pylist()
    grouped: dict[str, dict[str, dict[Any, float]]] = {}
    for method in sorted({row["method"] for row in rows}):
        own = [row for row in rows if row["method"] == method]
        users = [row["user_id"] for row in own]
        grouped[method] = {metric.name: average_by_user(users, [row.get(metric.name) for row in own]) for metric in metrics}
    return grouped


def summarise_scores(scores: pa.Table, metrics: tuple[Metric, ...], config: EvaluationConfig, *, seed: int) -> dict[str, Any]:
    """Return `methods` (method -> metric -> value, low, high, n) and `differences` (main method minus each other one)."""
    by_user = group_by_user(scores, metrics)
    knobs: dict[str, Any] = {"seed": seed, "num_resamples": config.num_resamples, "level": config.level}
    methods = {
        method: {name: asdict(compute_mean_interval(users, **knobs)) for name, users in columns.items()} for method, columns in by_user.items()
    }
    main = by_user.get(config.main_method, {})
    differences = {
        method: {name: asdict(compute_paired_interval(main[name], users, **knobs)) for name, users in columns.items()}
        for method, columns in by_user.items()
        if main and method != config.main_method
    }
    return {"methods": methods, "differences": differences, "main_method": config.main_method}


def build_summary(
    scores: pa.Table,
    tasks: Sequence[Task],
    metrics: tuple[Metric, ...],
    config: EvaluationConfig,
    *,
    missing: Mapping[str, int],
    rejected: Mapping[Any, str],
    facts: dict[str, Any],
    styles: Mapping[str, tuple[Sequence[str], Sequence[str]]] | None = None,
) -> dict[str, Any]:
    """Return everything that the report needs to know: figures, how they were made, and what was left out.

    `styles` holds by method the styles of the images and those that were wanted, for the test of the assignment.
    """
    compared = sum(len(task.history) for task in tasks if (task.method, task.case_id) not in rejected)
    present = [metric for metric in metrics if metric.name in scores.column_names]
    used = sum(value for value in scores["num_history"].to_pylist() if value is not None) if "num_history" in scores.column_names else 0
    skipped = {
        "cases_without_image": dict(missing),
        "unreadable_images": len(rejected),
        "unreadable_history_items": compared - int(used),
    }
    figures = summarise_scores(scores, tuple(present), config, seed=facts["seed"])
    for method, (drawn, wanted) in (styles or {}).items():
        p = compute_assignment_p(drawn, wanted, seed=facts["seed"])
        figures["methods"][method]["assignment_p"] = asdict(Interval(p, None, None, len(drawn)))
    return {
        **facts,
        **figures,
        "split": config.split,
        "history": config.history,
        "text": config.text,
        "image_size": config.image_size,
        "interval": {"level": config.level, "num_resamples": config.num_resamples, "unit": "user"},
        "num_cases": len({task.case_id for task in tasks}),
        "num_users": len({task.user_id for task in tasks}),
        "skipped": skipped,
    }


def describe_users(cases: pa.Table, drawn: Collection[str], split: str) -> list[str]:
    """Say over whom the metrics are taken if users of other splits are drawn (`drawn` are case_ids) too; nothing if none is."""
    rows = [row for row in cases.select(["case_id", "user_id", "split"]).to_pylist() if row["case_id"] in drawn]
    measured, others = ({row["user_id"] for row in rows if (row["split"] == split) is wanted} for wanted in (True, False))
    if not others:
        return []
    return [f"evaluation: metrics over the {len(measured):,} held-out users ({split}); {len(others):,} of other splits are drawn and not measured."]


def flatten_metrics(summary: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return what `dvc metrics show` prints: every value of the main method, and the HEADLINES of the others."""
    return {
        method: {
            name: round(entry["value"], 6)
            for name, entry in entries.items()
            if entry["value"] is not None and name != "num_history" and (method == summary["main_method"] or name in HEADLINES)
        }
        for method, entries in summary["methods"].items()
    }


def list_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per method and metric that has a value, for plots."""
    return [
        {"method": method, "metric": name, **{column: "" if entry[column] is None else entry[column] for column in CSV_COLUMNS[2:]}}
        for method, entries in summary["methods"].items()
        for name, entry in entries.items()
        if entry["value"] is not None
    ]
