"""Eq. 3-5 with worked numbers, and the outcome of every case. Run: `python -m pytest tests/pipeline/retrieval/test_history.py`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.artifacts import build_table
from pipeline.retrieval.config import RetrievalConfig
from pipeline.retrieval.history import build_retrieval_preferences, compute_entropy, compute_retrieval_preference, compute_weights, retrieve_histories
from pipeline.retrieval.measure import measure_retrieval
from pipeline.schemas import CASES, EMBEDDINGS, ITEMS, RETRIEVED
from tests.configs import RETRIEVAL

SIMILARITY = torch.tensor([0.85, 0.80, 0.75, 0.70, 0.60])


def make_config(**changes: Any) -> RetrievalConfig:
    return replace(RETRIEVAL, **changes)


def make_embeddings(cosines: dict[str, float]) -> pa.Table:
    """Make items whose cosine to the x axis is given; the visual vector of the i-th item is (i, 1)."""
    rows = [
        {"item_id": name, "semantic": [value, math.sqrt(1 - value**2)], "visual": [float(i), 1.0], "clip_image": [0.0, 1.0]}
        for i, (name, value) in enumerate(cosines.items())
    ]
    return build_table(rows, EMBEDDINGS)


def make_cases(*histories: list[str], reference_id: str = "ref") -> pa.Table:
    rows = [
        {"case_id": f"c{i}", "user_id": f"u{i}", "split": "test", "history": history, "reference_id": reference_id, "truth_id": None}
        for i, history in enumerate(histories)
    ]
    return build_table(rows, CASES)


WORLD = make_embeddings({"ref": 1.0, "a": 0.9, "b": 0.7, "c": 0.5, "d": 0.3, "e": 0.1, "twin": 0.7})


def list_items(rows: list[dict[str, Any]], case_id: str = "c0") -> list[str]:
    return [row["item_id"] for row in rows if row["case_id"] == case_id]


@pytest.mark.parametrize(
    ("normalisation", "temperature", "expected"),
    [
        ("minmax", 1.0, [0.293622, 0.240397, 0.196821, 0.161143, 0.108017]),  # s' = 1, .8, .6, .4, 0
        ("raw", 1.0, [0.222441, 0.211592, 0.201273, 0.191457, 0.173237]),
        ("sum", 1.0, [0.205980, 0.203215, 0.200487, 0.197796, 0.192522]),
        ("raw", 0.07, [0.533439, 0.261141, 0.127839, 0.062583, 0.014998]),
    ],
)
def test_weights_have_the_values_computed_by_hand(normalisation: Any, temperature: float, expected: list[float]) -> None:
    weight_K = compute_weights(SIMILARITY, normalisation=normalisation, temperature=temperature)
    torch.testing.assert_close(weight_K, torch.tensor(expected), atol=1e-6, rtol=0)
    assert weight_K.sum().item() == pytest.approx(1)


def test_centring_takes_the_common_part_out_of_the_cosine() -> None:
    common = torch.tensor([10.0, 0.0, 0.0])
    own = {"ref": [0.0, 1.0, 0.2], "alike": [0.0, 1.0, 0.3], "long": [0.0, 0.1, 0.0], "unlike": [0.0, -1.0, 0.5], "other": [0.0, -1.1, -1.0]}
    vectors = {name: torch.nn.functional.normalize(common + torch.tensor(value), dim=0).tolist() for name, value in own.items()}
    world = build_table([{"item_id": name, "semantic": v, "visual": v, "clip_image": v} for name, v in vectors.items()], EMBEDDINGS)
    cases = make_cases(["alike", "long", "unlike", "other"])
    rows = {center: retrieve_histories(cases, world, make_config(k=4, center=center), seed=0)[0] for center in (False, True)}
    plain, centred = ({row["item_id"]: row["similarity"] for row in rows[center]} for center in (False, True))
    assert min(plain.values()) > 0.95  # as printed, all are alike
    mean = torch.tensor(list(vectors.values()), dtype=torch.float64).mean(dim=0)
    for name, value in centred.items():
        expected = torch.cosine_similarity(torch.tensor(vectors["ref"]) - mean, torch.tensor(vectors[name]) - mean, dim=0)
        assert value == pytest.approx(expected.item(), abs=1e-5)
    assert centred["alike"] > 0.9
    assert centred["unlike"] < 0


@pytest.mark.parametrize("normalisation", ["minmax", "raw", "sum"])
def test_weights_are_positive_sum_to_one_and_favour_the_more_similar(normalisation: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        similarity_K = (torch.rand(5, generator=generator, dtype=torch.float64) * 1.8 - 0.8).sort(descending=True).values
        weight_K = compute_weights(similarity_K, normalisation=normalisation, temperature=0.5)
        assert weight_K.sum().item() == pytest.approx(1)
        assert (weight_K > 0).all()
        assert (weight_K.diff() <= 1e-12).all()


@pytest.mark.parametrize("normalisation", ["minmax", "raw", "sum"])
def test_equal_similarities_and_a_single_item_are_weighted_evenly(normalisation: Any) -> None:
    for values in ([0.4], [0.4, 0.4, 0.4], [0.0, 0.0]):
        weight_K = compute_weights(torch.tensor(values), normalisation=normalisation, temperature=1.0)
        torch.testing.assert_close(weight_K, torch.full((len(values),), 1 / len(values)))


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="minmax, raw, sum"):
        compute_weights(SIMILARITY, normalisation="softmax")  # type: ignore[arg-type]


def test_the_preference_is_the_weighted_sum_of_visual_features() -> None:
    weight_K, visual_KD = torch.tensor([0.75, 0.25]), torch.tensor([[4.0, 0.0, 8.0], [0.0, 4.0, 8.0]])
    assert compute_retrieval_preference(weight_K, visual_KD).tolist() == [3.0, 1.0, 8.0]
    with pytest.raises(ValueError, match="2 and 3"):
        compute_retrieval_preference(weight_K, torch.zeros(3, 3))
    with pytest.raises(ValueError, match="at least one"):
        compute_retrieval_preference(torch.zeros(0), torch.zeros(0, 3))


def test_entropy_is_log_k_for_even_weights_and_zero_for_one() -> None:
    assert compute_entropy(torch.full((5,), 0.2)) == pytest.approx(math.log(5))
    assert compute_entropy(torch.tensor([1.0, 0.0])) == 0.0


def test_the_most_similar_items_come_first_with_their_cosines() -> None:
    rows, rejected = retrieve_histories(make_cases(["d", "a", "e", "b", "c"]), WORLD, make_config(k=3), seed=0)
    assert not rejected
    assert [(row["rank"], row["item_id"]) for row in rows] == [(0, "a"), (1, "b"), (2, "c")]
    np.testing.assert_allclose([row["similarity"] for row in rows], [0.9, 0.7, 0.5], atol=1e-6)
    expected = torch.softmax(torch.tensor([1.0, 0.5, 0.0]), dim=0).tolist()
    np.testing.assert_allclose([row["weight"] for row in rows], expected, atol=1e-5)  # the cosines are rounded to 1e-6


def test_equal_similarity_goes_to_the_more_recent_item() -> None:
    for history, expected in ((["b", "twin", "a"], ["a", "twin"]), (["twin", "b", "a"], ["a", "b"])):
        assert list_items(retrieve_histories(make_cases(history), WORLD, make_config(), seed=0)[0]) == expected


def test_where_all_texts_are_equal_the_newest_items_are_retrieved_and_weigh_the_same() -> None:
    vector_ND = np.full((4, 3), 3**-0.5) + np.random.default_rng(0).normal(size=(4, 3)) * 1e-7  # equal but for the batches that they were encoded in
    rows = [{"item_id": item_id, "semantic": v, "visual": v, "clip_image": v} for item_id, v in zip("abcr", vector_ND.tolist(), strict=True)]
    embeddings = build_table(rows, EMBEDDINGS)
    for center in (False, True):
        found, rejected = retrieve_histories(make_cases(["a", "b", "c"], reference_id="r"), embeddings, make_config(center=center), seed=0)
        assert (list_items(found), rejected) == (["c", "b"], {})
        assert [row["weight"] for row in found] == pytest.approx([0.5, 0.5])
        assert [row["similarity"] for row in found] == pytest.approx([0.0 if center else 1.0] * 2, abs=1e-6)


def test_exp_ret_takes_the_next_k_ranks() -> None:
    history = ["a", "b", "c", "d", "e"]
    assert list_items(retrieve_histories(make_cases(history), WORLD, make_config(strategy="exp-ret"), seed=0)[0]) == ["c", "d"]
    rows, _ = retrieve_histories(make_cases(history), WORLD, make_config(strategy="exp-ret", k=4), seed=0)
    assert [(row["rank"], row["item_id"], row["weight"]) for row in rows] == [(0, "e", 1.0)]
    rows, rejected = retrieve_histories(make_cases(history), WORLD, make_config(strategy="exp-ret", k=5), seed=0)
    assert rows == []
    assert rejected == {"c0": "Only 5 history items have embeddings, so none ranks beyond k = 5."}


def test_random_draws_k_items_per_case_and_seed_in_order_of_similarity() -> None:
    cases = make_cases(*[["a", "b", "c", "d", "e"]] * 200)
    config = make_config(strategy="random")
    rows, _ = retrieve_histories(cases, WORLD, config, seed=0)
    assert rows == retrieve_histories(cases, WORLD, config, seed=0)[0]
    assert rows != retrieve_histories(cases, WORLD, config, seed=1)[0]
    chosen = [tuple(list_items(rows, f"c{i}")) for i in range(200)]
    assert all(len(set(items)) == 2 and list(items) == sorted(items) for items in chosen)
    counts = [sum(item in items for items in chosen) for item in "abcde"]
    assert min(counts) > 50  # 80 expected of 200, standard deviation 7
    alone, _ = retrieve_histories(cases.slice(7, 1), WORLD, config, seed=0)
    assert alone == [row for row in rows if row["case_id"] == "c7"]


@pytest.mark.parametrize("strategy", ["ret", "random"])
def test_a_k_beyond_the_history_takes_all_of_it(strategy: str) -> None:
    rows, rejected = retrieve_histories(make_cases(["c", "a"]), WORLD, make_config(k=7, strategy=strategy), seed=0)
    assert (list_items(rows), rejected) == (["a", "c"], {})


@pytest.mark.parametrize("strategy", ["ret", "exp-ret", "random"])
def test_k_zero_retrieves_nothing_and_rejects_nothing(strategy: str) -> None:
    assert retrieve_histories(make_cases(["c", "a"]), WORLD, make_config(k=0, strategy=strategy), seed=0) == ([], {})


def test_a_repeated_item_counts_once_at_its_latest_place() -> None:
    assert list_items(retrieve_histories(make_cases(["b", "b", "twin", "b", "e"]), WORLD, make_config(k=4), seed=0)[0]) == ["b", "twin", "e"]


def test_items_without_embedding_are_skipped_and_hopeless_cases_rejected() -> None:
    rows, rejected = retrieve_histories(make_cases(["x", "c", "y"], ["x", "y"], []), WORLD, make_config(), seed=0)
    assert list_items(rows) == ["c"]
    assert rejected == {
        "c1": "None of the 2 history items has an embedding.",
        "c2": "None of the 0 history items has an embedding.",
    }
    _, rejected = retrieve_histories(make_cases(["a"], reference_id="lost"), WORLD, make_config(), seed=0)
    assert rejected == {"c0": "The reference item lost has no embedding."}


def test_preferences_of_many_cases_equal_their_sums_by_hand() -> None:
    cases = make_cases(["a", "b", "c"], ["x"], ["c", "d"])
    rows, _ = retrieve_histories(cases, WORLD, make_config(normalisation="raw", temperature=0.2), seed=0)
    retrieved = build_table(rows, RETRIEVED)
    preference_BD, has_B = build_retrieval_preferences(retrieved, WORLD, ["c2", "c1", "c0"])
    assert has_B.tolist() == [True, False, True]
    first = 1 / (1 + math.exp(-0.2 / 0.2))  # items c and d, visual (3, 1) and (4, 1), cosines 0.5 and 0.3
    torch.testing.assert_close(preference_BD[0], torch.tensor([3 * first + 4 * (1 - first), 1.0]), atol=1e-5, rtol=0)
    assert preference_BD[1].tolist() == [0.0, 0.0]
    clip_BD, _ = build_retrieval_preferences(retrieved, WORLD, ["c0"], feature="clip_image")
    torch.testing.assert_close(clip_BD, torch.tensor([[0.0, 1.0]]))


def test_measures_have_the_values_computed_by_hand() -> None:
    categories = {"ref": "car", "a": "car", "b": "dog", "c": "car", "d": "dog", "e": "dog"}
    items = build_table(
        [{"item_id": i, "image": {"bytes": b"", "path": None}, "text": i, "category": c, "image_sha256": ""} for i, c in categories.items()], ITEMS
    )
    cases = make_cases(["a", "b", "c", "d", "e"], ["e"], ["x"])
    rows, _ = retrieve_histories(cases, WORLD, make_config(normalisation="raw", temperature=1e6), seed=0)
    measures = measure_retrieval(rows, cases, items, seed=0)
    assert (measures["cases"], measures["cases_retrieved"], measures["rows"]) == (3, 2, 3)
    assert measures["similarity"]["value"] == pytest.approx((0.8 + 0.1) / 2, abs=1e-6)
    assert measures["category_match"]["value"] == pytest.approx((0.5 + 0) / 2)
    assert measures["category_match_history"]["value"] == pytest.approx((0.4 + 0) / 2)
    assert measures["category_match"]["n"] == 2
    assert measures["weight_entropy"]["value"] == pytest.approx(math.log(2) / 2, abs=1e-6)
    assert measures["weight_evenness"] == {"value": pytest.approx(1, abs=1e-6), "low": None, "high": None, "n": 1}


def test_measures_of_no_retrieval_are_counts_alone() -> None:
    assert measure_retrieval([], make_cases(["a"]), build_table([], ITEMS), seed=0) == {"cases": 1, "cases_retrieved": 0, "rows": 0}
