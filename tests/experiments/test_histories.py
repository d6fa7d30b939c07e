"""Figure 2 as an analysis of the data. Run: python -m pytest tests/experiments/test_histories.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from experiments import histories
from experiments.histories import CSV_COLUMNS, METRICS, PARTS, build_page, choose_interactions, list_rows, list_targets, measure_parts, summarise
from experiments.names import RECALL, SAMPLED_NDCG
from pipeline.artifacts import build_table, write_table
from pipeline.engine import Current
from pipeline.params import build_config
from pipeline.retrieval.config import RetrievalConfig
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS
from pipeline.spreadsheets import read_csv, write_csv
from tests.configs import PARAMS

NUM_USERS, NUM_ITEMS, LENGTH, K = 24, 30, 8, 2
RETRIEVAL = replace(build_config(PARAMS["retrieval"], RetrievalConfig, where="retrieval"), k=K)


def make_tables(seed: int = 0) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Make users with two items like their reference and six others; the truth is another item like the reference."""
    rng = np.random.default_rng(seed)
    groups = np.arange(NUM_ITEMS) % 5
    vectors = np.eye(8, dtype=np.float32)[groups] + 0.05 * rng.standard_normal((NUM_ITEMS, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    interactions, cases = [], []
    for user in range(NUM_USERS):
        group = user % 5
        own = rng.permutation(np.flatnonzero(groups == group))
        history = rng.permutation([*own[:2], *rng.permutation(np.flatnonzero(groups != group))[: LENGTH - 2]])
        names = [f"i{item:02}" for item in history]
        interactions += [{"user_id": f"u{user:02}", "item_id": name, "position": place} for place, name in enumerate(names)]
        case = {"case_id": f"c{user:02}", "user_id": f"u{user:02}", "split": "test" if user % 2 else "train", "history": names}
        cases.append({**case, "reference_id": f"i{own[2]:02}", "truth_id": f"i{own[3]:02}"})
    embeddings = [{"item_id": f"i{item:02}", "semantic": vector, "visual": vector, "clip_image": vector} for item, vector in enumerate(vectors)]
    return build_table(interactions, INTERACTIONS), build_table(cases, CASES), build_table(embeddings, EMBEDDINGS)


@pytest.mark.parametrize(("strategy", "count"), [("ret", K), ("exp-ret", K), ("random", K), (None, LENGTH)])
def test_a_part_holds_so_many_of_every_users_items_in_their_order(strategy: str | None, count: int) -> None:
    interactions, cases, embeddings = make_tables()
    chosen = choose_interactions(interactions, cases, embeddings, RETRIEVAL, strategy, seed=0).to_pylist()
    history_of = {case["user_id"]: case["history"] for case in cases.to_pylist()}
    for user_id, history in history_of.items():
        own = [row["item_id"] for row in chosen if row["user_id"] == user_id]
        assert len(own) == count
        assert own == [item_id for item_id in history if item_id in own]


def test_the_first_part_is_what_is_like_the_reference_and_the_next_is_not() -> None:
    interactions, cases, embeddings = make_tables()
    group_of = {f"i{item:02}": item % 5 for item in range(NUM_ITEMS)}
    reference_of = {case["user_id"]: case["reference_id"] for case in cases.to_pylist()}
    for strategy, expected in (("ret", True), ("exp-ret", False)):
        chosen = choose_interactions(interactions, cases, embeddings, RETRIEVAL, strategy, seed=0).to_pylist()
        assert {group_of[row["item_id"]] == group_of[reference_of[row["user_id"]]] for row in chosen} == {expected}


def test_the_truths_of_test_users_are_ranked_or_without_one_the_reference() -> None:
    rows = make_tables()[1].to_pylist()[:4]
    rows[1]["truth_id"] = None
    targets = list_targets(build_table(rows, CASES), ["i99", rows[1]["reference_id"], rows[3]["truth_id"]])
    assert [(target.case_id, target.reference_id) for target in targets] == [("c01", rows[1]["reference_id"]), ("c03", rows[3]["truth_id"])]
    assert targets[0].history == tuple(rows[1]["history"])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    root = tmp_path_factory.mktemp("run")
    for name, table, schema in zip(("interactions", "cases", "embeddings"), make_tables(), (INTERACTIONS, CASES, EMBEDDINGS), strict=True):
        folder = "embedding" if name == "embeddings" else "dataset"
        write_table(root / folder / f"{name}.parquet", table.to_pylist(), schema, provenance={})
    params = {**PARAMS, "retrieval": {**PARAMS["retrieval"], "k": K}, "ranker": {**PARAMS["ranker"], "epochs": 10, "num_neighbors": 4}}
    params["ranker"]["validation_items"] = 0
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        patch.setattr(histories, "SEEDS", (0, 1))
        patch.setattr(Current, "workers", 1)  # as it was afterwards: the stage's own choice would hold for the tests to come
        return measure_parts(root, root / "params.yaml")


def test_every_part_is_measured_on_the_same_users_with_every_seed(measured: dict) -> None:
    assert list(measured) == list(PARTS)
    keys = {(seed, f"u{user:02}") for seed in (0, 1) for user in range(1, NUM_USERS, 2)}
    assert all(set(values[metric]) == keys for values in measured.values() for metric in METRICS)


def test_what_is_like_the_reference_tells_more_of_the_truth_than_what_is_not(measured: dict) -> None:
    means = {name: np.mean(list(values[RECALL].values())) for name, values in measured.items()}
    assert means["Ret"] > means["Exp-Ret"]


def test_page_and_csv_hold_every_figure_and_the_differences_to_the_first_part(measured: dict, tmp_path: Path) -> None:
    summary = list(summarise(measured))
    page = build_page(summary, k=K, num_users=12)
    assert page.count("| Ret |") == 1
    assert page.count("| Exp-Ret |") == page.count("| whole history |") == 2
    write_csv(tmp_path / "out.csv", list_rows(summary), CSV_COLUMNS)
    rows = read_csv(tmp_path / "out.csv")
    assert len(rows) == len(PARTS) * len(METRICS)
    own = next(row for row in rows if (row["history"], row["metric"]) == ("Random", SAMPLED_NDCG))
    values = {name: np.mean(list(measured[name][SAMPLED_NDCG].values())) for name in ("Random", "Ret")}
    assert float(own["value"]) == pytest.approx(values["Random"], rel=1e-4)
    assert float(own["difference"]) == pytest.approx(values["Random"] - values["Ret"], rel=1e-4, abs=1e-6)
    assert int(own["n"]) == 24
