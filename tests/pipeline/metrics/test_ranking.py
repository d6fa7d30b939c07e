"""Ranks, Recall@K, NDCG@K and ΔR against worked numbers. Run: python -m pytest tests/pipeline/metrics/test_ranking.py"""

import math

import pytest
import torch

from pipeline.metrics.ranking import compute_ndcg, compute_rank_change, compute_rank_gain, compute_ranks, compute_recall

SCORES = torch.tensor([[0.9, 0.5, 0.7, 0.5, 0.1]])


def rank(target: int, *, candidates: list[bool] | None = None, score: float | None = None) -> int:
    mask = torch.tensor([candidates or [True] * 5])
    replaced = None if score is None else torch.tensor([score])
    return int(compute_ranks(SCORES, torch.tensor([target]), candidate_BN=mask, target_score_B=replaced))


def test_the_best_item_has_rank_one_and_the_worst_the_last() -> None:
    assert (rank(0), rank(2), rank(4)) == (1, 2, 5)


def test_ties_count_against_the_target() -> None:
    assert (rank(1), rank(3)) == (4, 4)
    constant = compute_ranks(torch.zeros(2, 7), torch.tensor([0, 6]), candidate_BN=torch.ones(2, 7, dtype=torch.bool))
    assert constant.tolist() == [7, 7]


def test_only_candidates_are_counted() -> None:
    assert rank(4, candidates=[False, True, False, True, True]) == 3
    assert rank(4, candidates=[False] * 5) == 1


def test_a_replaced_score_competes_with_all_but_the_targets_own() -> None:
    assert rank(0, score=0.6) == 2
    assert rank(0, score=0.9) == 1  # the catalogue's score of the same item is no rival
    assert rank(0, score=0.0) == 5


def test_candidates_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="bool"):
        compute_ranks(SCORES, torch.tensor([0]), candidate_BN=torch.ones(1, 5))


def test_recall_is_the_share_of_a_users_positives() -> None:
    rank_BP = torch.tensor([[1, 11, 30], [10, 0, 0], [11, 0, 0]])  # 0 pads
    torch.testing.assert_close(compute_recall(rank_BP, k=10), torch.tensor([1 / 3, 1.0, 0.0]))


def test_ndcg_of_one_positive_is_its_discount() -> None:
    ndcg = compute_ndcg(torch.tensor([[1], [2], [3], [10], [11]]), k=10)
    torch.testing.assert_close(ndcg, torch.tensor([1.0, 1 / math.log2(3), 0.5, 1 / math.log2(11), 0.0]))


def test_the_ideal_has_all_positives_by_default_and_only_retrieved_ones_in_micros_variant() -> None:
    rank_BP = torch.tensor([[1, 500, 900]])
    ideal = 1 + 1 / math.log2(3) + 0.5
    assert float(compute_ndcg(rank_BP, k=10)) == pytest.approx(1 / ideal)  # 0.4693
    assert float(compute_ndcg(rank_BP, k=10, ideal="retrieved")) == 1.0


def test_micros_ideal_uses_hits_beyond_k() -> None:
    ndcg = compute_ndcg(torch.tensor([[1, 15]]), k=10, ideal="retrieved", retrieved_k=20)
    assert float(ndcg) == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert float(compute_ndcg(torch.tensor([[30, 40]]), k=10, ideal="retrieved")) == 0.0


def test_more_positives_than_k_can_still_reach_one() -> None:
    assert float(compute_ndcg(torch.arange(1, 6)[None], k=2)) == pytest.approx(1.0)
    assert float(compute_recall(torch.arange(1, 6)[None], k=2)) == pytest.approx(0.4)


def test_an_unknown_ideal_is_refused() -> None:
    with pytest.raises(ValueError, match="standard, retrieved"):
        compute_ndcg(torch.tensor([[1]]), k=1, ideal="best")


def test_rank_change_of_worked_cases_and_at_its_bounds() -> None:
    original, generated = torch.tensor([9, 10, 5, 1800, 1]), torch.tensor([4, 604, 5, 1, 1800])
    expected = torch.tensor([0.5, -54.0, 0.0, 1799 / 1801, -1799 / 2])
    torch.testing.assert_close(compute_rank_change(original, generated), expected)


def test_rank_gain_counts_halvings() -> None:
    torch.testing.assert_close(compute_rank_gain(torch.tensor([8, 1, 5]), torch.tensor([2, 4, 5])), torch.tensor([2.0, -2.0, 0.0]))


def test_ranks_below_one_or_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="below 1"):
        compute_rank_change(torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="original"):
        compute_rank_gain(torch.tensor([1, 2]), torch.tensor([1]))
