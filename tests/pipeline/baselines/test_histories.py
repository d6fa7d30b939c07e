"""What a baseline is given. Run: `python -m pytest tests/pipeline/baselines/test_histories.py`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.artifacts import build_table
from pipeline.baselines.histories import name_method, narrow_histories
from pipeline.schemas import CASES, RETRIEVED


def make_cases(**histories: list[str]) -> pa.Table:
    rows = [
        {"case_id": case_id, "user_id": "u", "split": "test", "history": history, "reference_id": "r", "truth_id": None}
        for case_id, history in histories.items()
    ]
    return build_table(rows, CASES)


def retrieve(**chosen: list[str]) -> pa.Table:
    rows = [
        {"case_id": case_id, "rank": rank, "item_id": item_id, "similarity": 0.5, "weight": 0.5}
        for case_id, items in chosen.items()
        for rank, item_id in enumerate(items)
    ]
    return build_table(rows, RETRIEVED)


def test_a_history_keeps_its_retrieved_items_once_and_in_its_own_order() -> None:
    cases = make_cases(c1=["a", "b", "a", "c", "d"], c2=["a", "b"], c3=["c"])
    narrowed = narrow_histories(cases, retrieve(c1=["d", "a"], c2=["b"]))
    assert narrowed["history"].to_pylist() == [["a", "d"], ["b"], []]
    assert narrowed.schema.equals(cases.schema)
    assert narrowed.drop_columns("history").equals(cases.drop_columns("history"))


def test_without_any_retrieved_item_there_is_nothing_to_give() -> None:
    with pytest.raises(ValueError, match=r"no item was retrieved for any case.*set retrieval\.k to 1 or more"):
        narrow_histories(make_cases(c1=["a"]), RETRIEVED.build_empty())


def test_the_method_is_named_by_what_it_is_given() -> None:
    assert (name_method("ti", None), name_method("pmg", Path("retrieved.parquet"))) == ("ti", "pmg_retrieved")
