"""Which items a baseline is given: of a case the whole history, or the retrieved items alone (the methods `ti_retrieved`, `pmg_retrieved`)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

SUFFIX = "_retrieved"


def name_method(stage: str, retrieved: Path | None) -> str:
    """Return the method that a baseline's stage works for: its own, or the one that is given the retrieved items."""
    return f"{stage}{SUFFIX}" if retrieved else stage


def list_items(cases: pa.Table, split: str) -> list[str]:
    """List the history items of a split's cases, each once, in order."""
    return sorted({item_id for case in cases.to_pylist() if case["split"] == split for item_id in case["history"]})


def narrow_histories(cases: pa.Table, retrieved: pa.Table) -> pa.Table:
    """Return the cases with their retrieved items alone as history, in the history's order; a case without any keeps none.

    ValueError if nothing was retrieved for anybody.
    """
    if not len(retrieved):
        raise ValueError("no item was retrieved for any case, so there is nothing to learn from; set retrieval.k to 1 or more.")
    chosen: dict[str, set[str]] = {}
    for row in retrieved.select(["case_id", "item_id"]).to_pylist():
        chosen.setdefault(row["case_id"], set()).add(row["item_id"])
    histories = [
        [item_id for item_id in dict.fromkeys(case["history"]) if item_id in chosen.get(case["case_id"], ())]
        for case in cases.select(["case_id", "history"]).to_pylist()
    ]
    place = cases.schema.get_field_index("history")
    return cases.set_column(place, cases.schema.field(place), pa.array(histories, cases.schema.field(place).type))
