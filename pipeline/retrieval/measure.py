"""What a retrieval looks like in numbers: similarity, evenness of the weights, and how often category and reference agree.

Not in the paper, which shows the effect of retrieval on images only. Values are means over users with 95% bootstrap intervals.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch

from pipeline.columns import map_columns
from pipeline.metrics.intervals import average_by_user, compute_mean_interval
from pipeline.retrieval.history import compute_entropy


def measure_retrieval(rows: Sequence[dict[str, Any]], cases: pa.Table, items: pa.Table, *, seed: int) -> dict[str, Any]:
    """Return counts, and {value, low, high, n users} of the measures; a measure that no case has is left out.

    `category_match` is the share of a case's retrieved items that are of the reference's category, `category_match_history`
    that share in its whole history (what choosing blindly gives); `weight_evenness` is entropy / log K, 1 for a plain mean.
    """
    category_of = map_columns(items, "item_id", "category")
    chosen: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        chosen.setdefault(row["case_id"], []).append(row)
    selected = [case for case in cases.to_pylist() if case["case_id"] in chosen]
    measures: dict[str, list[float | None]] = {}
    for case in selected:
        for name, value in measure_case(chosen[case["case_id"]], case, category_of).items():
            measures.setdefault(name, []).append(value)
    user_ids = [case["user_id"] for case in selected]
    intervals = {name: compute_mean_interval(average_by_user(user_ids, values), seed=seed) for name, values in sorted(measures.items())}
    known = {name: dataclasses.asdict(interval) for name, interval in intervals.items() if interval.n}
    return {"cases": len(cases), "cases_retrieved": len(selected), "rows": len(rows), **known}


def measure_case(rows: Sequence[dict[str, Any]], case: dict[str, Any], category_of: dict[str, str]) -> dict[str, float | None]:
    """Measure one case from its retrieved rows."""
    entropy = compute_entropy(torch.tensor([row["weight"] for row in rows]))
    category = category_of.get(case["reference_id"])
    return {
        "similarity": sum(row["similarity"] for row in rows) / len(rows),
        "weight_entropy": entropy,
        "weight_evenness": entropy / math.log(len(rows)) if len(rows) > 1 else None,
        "category_match": compute_share([row["item_id"] for row in rows], category, category_of),
        "category_match_history": compute_share(case["history"], category, category_of),
    }


def compute_share(item_ids: Sequence[str], category: str | None, category_of: dict[str, str]) -> float | None:
    """Return the share of items that are of the given category, or None if it is unknown or empty."""
    return sum(category_of.get(item_id) == category for item_id in item_ids) / len(item_ids) if category and item_ids else None
