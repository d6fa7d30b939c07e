"""Exact top-k against an oracle without FAISS. Run: `python -m pytest tests/pipeline/retrieval/test_index.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.retrieval import index
from pipeline.retrieval.index import search_top_k


def rank_in_torch(query_D: np.ndarray, candidate_ND: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    """Sort all cosines, computed one by one in torch; ties go to the later row."""
    query = torch.from_numpy(query_D).double()
    cosines = [round(float(torch.nn.functional.cosine_similarity(torch.from_numpy(row).double(), query, dim=0, eps=0.0)), 6) for row in candidate_ND]
    order = sorted(range(len(cosines)), key=lambda i: (-cosines[i], -i))[:k]
    return order, [cosines[i] for i in order]


@pytest.mark.parametrize(("num_rows", "k"), [(1, 1), (4, 10), (19, 5), (300, 5), (300, 300), (1000, 40)])
def test_top_k_equals_a_full_sort_in_torch(num_rows: int, k: int) -> None:
    rng = np.random.default_rng(num_rows + k)
    candidate_ND = rng.normal(size=(num_rows, 24)).astype(np.float32) * rng.uniform(0.1, 9, size=(num_rows, 1)).astype(np.float32)
    query_D = rng.normal(size=24).astype(np.float32)
    found, cosines = search_top_k(query_D, candidate_ND, k)
    expected, expected_cosines = rank_in_torch(query_D, candidate_ND, k)
    assert found.tolist() == expected
    np.testing.assert_allclose(cosines, expected_cosines, atol=2e-6)  # one unit of the sixth decimal, where a half may be rounded either way


@pytest.mark.parametrize("num_copies", [2, 30, 200])
def test_ties_go_to_the_later_row_however_many_there_are(num_copies: int) -> None:
    rng = np.random.default_rng(0)
    candidate_ND = rng.normal(size=(250, 16)).astype(np.float32)
    query_D = candidate_ND[0].copy()
    places = np.sort(rng.choice(250, size=num_copies, replace=False))
    candidate_ND[places] = query_D
    candidate_ND[0] = -query_D if 0 not in places else query_D
    found, cosines = search_top_k(query_D, candidate_ND, 5)
    assert found.tolist()[: min(5, num_copies)] == places[::-1][:5].tolist()
    np.testing.assert_allclose(cosines[: min(5, num_copies)], 1.0)


def test_differences_below_the_sixth_decimal_count_as_ties() -> None:
    query_D = np.array([1, 0], np.float32)
    angles = np.array([0.5, 0.5 - 1e-8, 0.5 + 1e-8, 0.6])
    candidate_ND = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert search_top_k(query_D, candidate_ND, 4)[0].tolist() == [2, 1, 0, 3]


def test_nothing_is_found_among_nothing_or_with_k_zero() -> None:
    for candidates, k in ((np.empty((0, 3)), 5), (np.ones((4, 3)), 0)):
        found, cosines = search_top_k(np.ones(3), candidates, k)
        assert len(found) == len(cosines) == 0


def test_a_zero_vector_is_similar_to_nothing() -> None:
    found, cosines = search_top_k(np.array([1.0, 0.0]), np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]), 3)
    assert found.tolist() == [2, 0, 1]
    np.testing.assert_allclose(cosines, [0.5**0.5, 0.0, -1.0], atol=1e-6)


def test_faiss_and_numpy_inner_products_agree() -> None:
    rng = np.random.default_rng(1)
    unit_ND = index.to_unit_rows(rng.normal(size=(50, 768)))
    found, scores = index.search_faiss(unit_ND[:1], unit_ND, 50)
    np.testing.assert_allclose(scores, (unit_ND[found] @ unit_ND[0]), atol=index.FAISS_ERROR)
