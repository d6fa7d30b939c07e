"""Worked values, and participants whose taste is known. Run: python -m pytest tests/pipeline/study/test_statistics.py"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, spearmanr

from pipeline.study import power, statistics
from pipeline.study.power import is_found, measure_power, plan_power
from pipeline.study.simulated import simulate_votes
from pipeline.study.statistics import (
    compare_all,
    compare_pairs,
    compute_crossed_p,
    compute_mean_ranks,
    estimate_strengths,
    measure_agreement,
    measure_concordance,
    resample_means,
)
from pipeline.study.votes import Votes

METHODS = ("original", "pmg", "ragar")
TASTE = (0.0, 0.7, 1.8)  # log strengths


def get_strengths(votes: Votes) -> dict[str, float]:
    return {method: strength.value for method, strength in estimate_strengths(votes, seed=0).items()}


def simulate(seed: int, log_strengths: tuple[float, ...] = TASTE, *, people: int = 20, cases: int = 20, **spreads: float) -> Votes:
    rng = np.random.default_rng(seed)
    return simulate_votes(METHODS, log_strengths, num_participants=people, num_cases=cases, rng=rng, **spreads)


def make_votes(*rankings: list[list[float]]) -> Votes:
    """Votes of participants, each a list of cases, each the places of A, B and C."""
    return Votes(("a", "b", "c"), np.array(rankings, dtype=np.float64))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 500)
    monkeypatch.setattr(statistics, "NUM_REFITS", 60)


def test_mean_ranks_pairs_and_shares_by_hand():
    votes = make_votes([[1, 2, 3], [1, 3, 2]], [[2, 1, 3], [np.nan] * 3])
    assert {method: interval.value for method, interval in compute_mean_ranks(votes, seed=0).items()} == pytest.approx(
        {"a": 4 / 3, "b": 2, "c": 8 / 3}
    )
    pairs = {(pair.first, pair.second): pair for pair in compare_pairs(votes, seed=0)}
    assert list(pairs) == [("c", "b"), ("c", "a"), ("b", "a")]
    assert pairs["c", "a"].difference.value == pytest.approx(4 / 3)
    assert (pairs["c", "a"].share_before, pairs["b", "a"].share_before, pairs["c", "b"].share_before) == pytest.approx((0, 1 / 3, 1 / 3))
    assert pairs["b", "a"].difference.low is None  # two participants are too few for an interval


def test_the_crossed_bootstrap_has_the_spread_of_participants_and_of_cases():
    """Where every participant adds a and every case adds b, the mean's variance is var(a)/P + var(b)/C."""
    rng = np.random.default_rng(0)
    a_P, b_C = rng.normal(scale=1.0, size=40), rng.normal(scale=2.0, size=30)
    votes = Votes(("a",), np.zeros((40, 30, 1)))
    means_R = resample_means(votes, (a_P[:, None] + b_C)[:, :, None], seed=1)[:, 0]
    assert np.std(means_R) == pytest.approx(math.sqrt(a_P.var() / 40 + b_C.var() / 30), rel=0.1)
    assert np.mean(means_R) == pytest.approx(a_P.mean() + b_C.mean(), abs=0.1)


def test_a_single_rater_is_not_drawn_anew_and_cases_are():
    votes = Votes(("a", "b"), np.stack([[1.0, 2.0]] * 12 + [[2.0, 1.0]] * 12)[None])
    interval = compute_mean_ranks(votes, seed=0)["a"]
    assert interval.value == 1.5
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(24), rel=0.15)
    (pair,) = compare_pairs(votes, seed=0)
    assert (pair.p_participants, pair.p) == (None, pair.p_cases)


def test_blocks_of_memory_change_no_interval(monkeypatch: pytest.MonkeyPatch):
    votes = simulate(0, people=12, cases=12)
    spread = np.std(resample_means(votes, votes.rank_PCM, seed=0), axis=0)
    monkeypatch.setattr(statistics, "MAX_CELLS", 12 * 3 * 7)
    means_RM = resample_means(votes, votes.rank_PCM, seed=0)
    assert means_RM.shape == (500, 3)
    assert np.std(means_RM, axis=0) == pytest.approx(spread, rel=0.15)


def test_concordance_by_hand():
    assert measure_concordance(np.array([[1, 2, 3], [1, 2, 3]])) == 1
    assert measure_concordance(np.array([[1, 2, 3], [3, 2, 1]])) == 0
    assert measure_concordance(np.array([[1, 2, 3], [1, 3, 2], [2, 1, 3]])) == pytest.approx(12 * (4 + 0 + 4) / (9 * 24))
    assert measure_concordance(np.array([[1, 1, 1]])) is None


def test_friedman_is_scipys_and_its_w_is_kendalls():
    mean_NM = simulate(0).average_over_cases()
    found, expected = compare_all(mean_NM), friedmanchisquare(*mean_NM.T)
    assert (found.test, found.num_blocks) == ("Friedman", 20)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.w == pytest.approx(measure_concordance(mean_NM))


def test_of_two_methods_the_overall_test_is_the_sign_test():
    found = compare_all(np.array([[1.2, 1.8]] * 9 + [[1.6, 1.4]] + [[1.5, 1.5]]))
    assert (found.test, found.statistic) == ("sign test", 9)
    assert found.p == pytest.approx(2 * 11 / 1024)  # 10 heads or 9 of 10, on either side; ties do not count
    assert compare_all(np.array([[1.5, 1.5]] * 3)).p == 1


def test_what_cannot_be_tested_is_none():
    assert compare_all(np.array([[1.0, 2.0, 3.0]])).p is None
    assert compare_all(np.full((4, 3), 2.0)).p == 1


def test_agreement_is_the_mean_rank_correlation_of_two_participants():
    same = make_votes([[1, 2, 3], [3, 1, 2]], [[1, 2, 3], [3, 1, 2]])
    assert measure_agreement(same) == statistics.Agreement(1.0, 1.0, 2)
    votes = simulate(3, people=6, cases=4)
    pairs = [spearmanr(votes.rank_PCM[i, c], votes.rank_PCM[j, c]).statistic for c in range(4) for i in range(6) for j in range(i)]
    assert measure_agreement(votes).correlation == pytest.approx(np.mean(pairs))
    assert measure_agreement(make_votes([[1, 2, 3]])) == statistics.Agreement(None, None, 0)


def test_strengths_are_those_of_the_plackett_luce_model_that_made_the_votes():
    votes = simulate(0, people=40, cases=40, participant_spread=0, case_spread=0)
    expected = np.exp(TASTE) / np.exp(TASTE).sum()
    assert [strength.value for strength in estimate_strengths(votes, seed=0).values()] == pytest.approx(expected, abs=0.03)


def test_intervals_of_strengths_hold_what_made_the_votes_and_are_wider_where_participants_differ():
    expected = np.exp(TASTE) / np.exp(TASTE).sum()
    alike = [estimate_strengths(simulate(seed, people=12, cases=12, participant_spread=0, case_spread=0), seed=0) for seed in range(10)]
    held = [bounds.low < value < bounds.high for strengths in alike for bounds, value in zip(strengths.values(), expected, strict=True)]
    assert np.mean(held) > 0.85
    apart = [estimate_strengths(simulate(seed, people=12, cases=12, participant_spread=1), seed=0) for seed in range(10)]
    narrow, wide = (np.mean([strengths["ragar"].high - strengths["ragar"].low for strengths in found]) for found in (alike, apart))
    assert wide > 1.3 * narrow


def test_few_participants_have_strengths_without_intervals():
    strength = estimate_strengths(simulate(0, people=3), seed=0)["ragar"]
    assert strength.value > 0
    assert strength.low is None
    assert strength.high is None


def test_a_method_that_is_always_first_has_a_finite_strength():
    strengths = get_strengths(make_votes(*[[[1, 2, 3]] * 5] * 10))
    assert 0.99 < strengths["a"] < 1 > strengths["b"] > strengths["c"] > 0
    assert sum(strengths.values()) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_participants_of_known_taste_give_their_order_back(seed: int):
    votes = simulate(seed, people=40, cases=50)
    means = {method: interval.value for method, interval in compute_mean_ranks(votes, seed=0).items()}
    assert sorted(means, key=means.get) == ["ragar", "pmg", "original"]
    strengths = get_strengths(votes)
    assert sorted(strengths, key=strengths.get) == ["original", "pmg", "ragar"]
    pairs = {(pair.first, pair.second): pair for pair in compare_pairs(votes, seed=0)}
    assert all(pair.difference.high < 0 and pair.p < 0.05 for pair in pairs.values())
    assert compare_all(votes.average_over_cases()).p < 0.001
    assert compare_all(votes.average_over_participants()).p < 0.001
    assert measure_agreement(votes).correlation > 0.1


def test_coin_tossing_participants_show_no_difference():
    votes = simulate(0, (0, 0, 0), participant_spread=0, case_spread=0)
    assert all(1.9 < interval.value < 2.1 for interval in compute_mean_ranks(votes, seed=0).values())
    assert abs(measure_agreement(votes).correlation) < 0.1
    assert get_strengths(votes)["ragar"] == pytest.approx(1 / 3, abs=0.06)
    assert compare_all(votes.average_over_cases()).p > 0.05
    assert all(pair.difference.low < 0 < pair.difference.high and pair.p > 0.05 for pair in compare_pairs(votes, seed=0))


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_where_methods_are_alike_on_average_few_studies_find_a_difference(spread: float, monkeypatch: pytest.MonkeyPatch):
    """5 of 100 may; 12 or more would, if the level held, in 1 of 200 such hundreds. With a spread methods differ by participant and by case."""
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 200)
    found = {"crossed": 0, "interval": 0}
    for seed in range(100):
        votes = simulate(seed, (0, 0, 0), people=25, cases=25, participant_spread=spread, case_spread=spread)
        difference_PC = votes.rank_PCM[:, :, 0] - votes.rank_PCM[:, :, 1]
        found["crossed"] += compute_crossed_p(difference_PC) < 0.05
        low, high = np.quantile(resample_means(votes, difference_PC[:, :, None], seed=seed), [0.025, 0.975])
        found["interval"] += low > 0 or high < 0
    assert max(found.values()) < 12, found


def test_the_crossed_p_value_is_clarks_min_f():
    """With F1 over participants and F2 over cases: min F' = F1 F2 / (F1 + F2), of 1 and (F1 + F2)^2 / (F1^2 / n2 + F2^2 / n1) degrees of freedom."""
    from scipy.stats import f, ttest_1samp

    difference_PC = np.random.default_rng(0).normal(0.3, size=(6, 9))
    f1, f2 = (ttest_1samp(difference_PC.mean(axis=axis), 0).statistic ** 2 for axis in (1, 0))
    expected = f.sf(f1 * f2 / (f1 + f2), 1, (f1 + f2) ** 2 / (f1**2 / 8 + f2**2 / 5))
    assert compute_crossed_p(difference_PC) == pytest.approx(expected)
    assert (compute_crossed_p(np.ones((2, 2))), compute_crossed_p(np.zeros((2, 2)))) == (0, 1)


def test_a_difference_that_only_these_participants_make_is_none():
    """Three of four like it much: over cases it is certain, over participants it is not, and the larger p-value counts."""
    votes = Votes(("a", "b"), np.stack([np.tile([2.0, 1.0], (30, 1))] * 3 + [np.tile([1.0, 2.0], (30, 1))]))
    (pair,) = compare_pairs(votes, seed=0)
    assert pair.p_cases < 0.001
    assert pair.p_participants > 0.3
    assert pair.p == max(pair.p_participants, pair.p_crossed)


def test_power_grows_with_participants_and_is_the_level_where_there_is_nothing():
    rows = {(row["share_before"], row["participants"]): row["power"] for row in plan_power(20, sizes=(6, 40), shares=(0.5, 0.7))}
    assert rows[0.7, 40] > rows[0.7, 6] + 0.1
    assert rows[0.7, 40] > 0.4
    assert max(rows[0.5, 6], rows[0.5, 40]) <= 0.05  # found the right way round: half of the level


def test_power_from_ballots_is_certain_where_they_are_and_nothing_where_they_are_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(power, "NUM_STUDIES", 50)
    sure = measure_power(simulate(0, (0, 3, 6)), "ragar", sizes=(8, 20))
    assert [(row.num_participants, row.second) for row in sure] == [(8, "original"), (8, "pmg"), (20, "original"), (20, "pmg")]
    assert all(row.power == 1 for row in sure)
    worse = measure_power(simulate(0, (6, 3, 0)), "ragar", sizes=(20,))
    assert [row.power for row in worse] == [0, 0]  # the wrong way round
    assert measure_power(make_votes([[1, 2, 3]]), "a") == []


def test_so_few_participants_that_sign_flips_cannot_be_small_find_nothing():
    votes = Votes(("a", "b"), np.tile([2.0, 1.0], (5, 20, 1)))
    assert is_found(votes, first=1) == [False]  # 2 of 32 flips are as large
    assert is_found(Votes(("a", "b"), np.tile([2.0, 1.0], (6, 20, 1))), first=1) == [True]
    assert compare_pairs(votes, seed=0)[0].p == pytest.approx(0.0625)
