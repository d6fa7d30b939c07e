"""Textual Inversion, on whole histories and on retrieved items, with tiny models. Run: python -m pytest tests/stages/test_inversion.py"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from pipeline.artifacts import read_provenance, read_table, write_table
from pipeline.cost import find_cost
from pipeline.json_files import read_json
from pipeline.schemas import CASE_PSEUDO_WORDS, GENERATED, PSEUDO_WORDS, REJECTED, RETRIEVED
from stages import ti
from tests.configs import TI, TI_RETRIEVED
from tests.stages.baseline_project import NO_ITEMS, TEST_CASES, invert, make_baseline_project, narrow, write_narrowed
from tests.stages.drawing_project import Project


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    return make_baseline_project(tmp_path, models)


def test_ti_learns_a_vector_for_every_drawn_user_and_says_what_it_cost(project: Project) -> None:
    assert "4 rows in, 4 computed" in invert(project)
    table = read_table(project.root / "ti" / "vectors.parquet", PSEUDO_WORDS)
    assert table["user_id"].to_pylist() == [f"u{case_id}" for case_id in TEST_CASES]
    metrics, cost = read_json(project.root / "ti" / "metrics.json"), find_cost(project.root / "ti" / "vectors.parquet")
    assert cost is not None
    assert metrics["num_users"] == 4
    assert metrics["held_out_loss"] != metrics["held_out_loss_before"] > 0
    assert cost["num_rows"] == 4
    assert cost["seconds"] > 0
    assert cost["peak_memory_mb"] > 10
    assert len((project.root / "ti" / "curves.csv").read_text().splitlines()) == 4  # header, start, middle, end


def test_ti_gives_the_same_bytes_again_with_and_without_its_ledger(project: Project) -> None:
    invert(project)
    first, cost = project.hash_outs("ti"), find_cost(project.root / "ti" / "vectors.parquet")
    assert "0 computed, 4 reused" in invert(project)
    assert project.hash_outs("ti") == first
    assert find_cost(project.root / "ti" / "vectors.parquet") == cost is not None
    shutil.rmtree(project.root / ".work")
    invert(project)
    assert project.hash_outs("ti") == first


def test_ti_draws_every_case_with_its_users_vectors(project: Project) -> None:
    invert(project)
    project.generate("ti", vectors="ti/vectors.parquet")
    drawn = read_table(project.root / "ti" / "generated.parquet", GENERATED)
    assert drawn["case_id"].to_pylist() == TEST_CASES
    assert read_provenance(project.root / "ti" / "generated.parquet")["identity"]["template"] == TI.template
    assert find_cost(project.root / "ti" / "generated.parquet")["seconds_per_row"] > 0
    first = [image["bytes"] for image in drawn["image"].to_pylist()]
    rows = read_table(project.root / "ti" / "vectors.parquet", PSEUDO_WORDS).to_pylist()
    facts = read_provenance(project.root / "ti" / "vectors.parquet")
    rows[0]["vectors"] = [-value for value in rows[0]["vectors"]]
    write_table(project.root / "other.parquet", rows[:3], PSEUDO_WORDS, provenance=facts)
    assert "4 rows in, 2 computed" in project.generate("ti", vectors="other.parquet")
    again = read_table(project.root / "ti" / "generated.parquet", GENERATED)
    assert [image["bytes"] for image in again["image"].to_pylist()][1:] == first[1:3]
    assert again["image"].to_pylist()[0]["bytes"] != first[0]
    assert read_table(project.root / "ti" / "rejected.parquet", REJECTED)["row_key"].to_pylist() == ["c09"]


def test_ti_retrieved_learns_for_every_case_what_ti_learns_from_a_history_of_its_retrieved_items(project: Project) -> None:
    narrow(project)
    assert "ti_retrieved: 4 rows in, 4 computed, 0 reused, 1 rejected" in invert(project, retrieved="retrieved.parquet", out="chosen")
    learned = read_table(project.root / "chosen" / "vectors.parquet", CASE_PSEUDO_WORDS)
    rejected = read_table(project.root / "chosen" / "rejected.parquet", REJECTED).to_pylist()
    assert rejected == [{"stage": "ti_retrieved", "row_key": NO_ITEMS, "reason": "None of the case's retrieved images can be read."}]
    assert learned["held_out_loss"].null_count == 3  # all images of so few are trained on
    assert len(set(map(str, learned["vectors"].to_pylist()))) == 3
    write_narrowed(project, user_id="case_id")
    project.params["ti"] |= asdict(TI_RETRIEVED)
    invert(project, cases="narrowed.parquet")
    whole = read_table(project.root / "ti" / "vectors.parquet", PSEUDO_WORDS)
    assert whole["user_id"].to_pylist() == learned["case_id"].to_pylist()
    for vector, other in zip(whole["vectors"].to_pylist(), learned["vectors"].to_pylist(), strict=True):  # beside other users in their batch
        torch.testing.assert_close(torch.tensor(vector), torch.tensor(other), rtol=1e-4, atol=1e-5)


def test_ti_retrieved_draws_every_case_with_its_own_vectors(project: Project) -> None:
    narrow(project)
    invert(project, retrieved="retrieved.parquet", out="chosen")
    project.generate("ti_retrieved", vectors="chosen/vectors.parquet")
    drawn = read_table(project.root / "ti_retrieved" / "generated.parquet", GENERATED)
    assert drawn["case_id"].to_pylist() == [case_id for case_id in TEST_CASES if case_id != NO_ITEMS]
    rejected = read_table(project.root / "ti_retrieved" / "rejected.parquet", REJECTED).to_pylist()
    assert rejected == [{"stage": "generation@ti_retrieved", "row_key": NO_ITEMS, "reason": "No pseudo-word was learned for this case."}]
    rows = read_table(project.root / "chosen" / "vectors.parquet", CASE_PSEUDO_WORDS).to_pylist()
    facts = read_provenance(project.root / "chosen" / "vectors.parquet")
    rows[1]["vectors"] = [-value for value in rows[1]["vectors"]]
    write_table(project.root / "other.parquet", rows, CASE_PSEUDO_WORDS, provenance=facts)
    project.generate("ti_retrieved", vectors="other.parquet")
    again = read_table(project.root / "ti_retrieved" / "generated.parquet", GENERATED)
    same = [first == second for first, second in zip(drawn["image"].to_pylist(), again["image"].to_pylist(), strict=True)]
    assert same == [True, False, True]


def test_retrieved_items_of_nobody_are_one_clear_error(project: Project) -> None:
    write_table(project.root / "retrieved.parquet", RETRIEVED.build_empty(), RETRIEVED, provenance={})
    message = invert(project, retrieved="retrieved.parquet", out="chosen", fails=True)
    assert "no item was retrieved for any case, so there is nothing to learn from; set retrieval.k to 1 or more." in message


def test_a_split_without_users_is_one_clear_error(project: Project) -> None:
    project.limit_cases({"c00", "c01"})  # of the split train
    message = project.run(ti, cases="cases.parquet", items="items.parquet", captions="captions.parquet", out="ti", fails=True)
    assert "no case is of the splits test" in message
