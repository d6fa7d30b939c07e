"""Claims about training hold over seeds, or not at all. Run: python -m pytest tests/experiments/test_claims_over_seeds.py"""

from __future__ import annotations

import pytest

from experiments.claim_rules import check_gain_over_seeds, check_mean_over_seeds, check_no_loss_over_seeds, check_share_over_seeds
from experiments.names import STYLE
from tests.experiments.test_check_claims import make


def pair_seeds(gains: list[list[float]]) -> list[tuple]:
    return [(make([0.5 + gain for gain in own], seed=seed), make([0.5] * len(own), seed=seed, name="y")) for seed, own in enumerate(gains)]


def test_what_training_adds_is_a_gain_over_at_least_five_seeds_or_none() -> None:
    sure = pair_seeds([[0.1, 0.2] * 10] * 5)
    assert check_gain_over_seeds(sure, STYLE).holds
    assert (verdict := check_gain_over_seeds(sure[:4], STYLE)).seeds == (0, 1, 2, 3)
    assert not verdict.holds
    assert not check_no_loss_over_seeds(sure[:4], STYLE).holds


def test_a_gain_in_three_seeds_of_five_is_within_the_noise_of_seeds_however_many_users_there_are() -> None:
    mixed = pair_seeds([[gain] * 200 for gain in (0.3, 0.3, 0.3, -0.3, -0.3)])
    verdict = check_gain_over_seeds(mixed, STYLE)
    assert (verdict.figure.value, verdict.figure.n) == (pytest.approx(0.06), 1000)
    assert verdict.figure.low < -0.1 < 0.2 < verdict.figure.high  # 1,000 users alone would say 0.04 to 0.08
    assert not verdict.holds
    assert "seed 4: " in verdict.note


def test_a_loss_within_its_interval_is_none_and_a_clear_one_is() -> None:
    assert check_no_loss_over_seeds(pair_seeds([[-0.1, 0.1, 0.1, -0.12] * 5] * 5), STYLE).holds
    assert not check_no_loss_over_seeds(pair_seeds([[-0.1, -0.2] * 10] * 5), STYLE).holds


def test_a_mean_counts_the_users_of_at_least_five_seeds() -> None:
    drawn = [make([level] * 20, seed=seed) for seed, level in enumerate((0.5, 0.6, 0.7, 0.8, 0.9))]
    verdict = check_mean_over_seeds(drawn, STYLE, 0.7)
    assert (verdict.figure.value, verdict.figure.n, verdict.holds) == (pytest.approx(0.7), 100, True)
    assert verdict.figure.low < 0.65 < 0.75 < verdict.figure.high  # of seeds; the users of each are alike
    assert not check_mean_over_seeds(drawn, STYLE, 0.71).holds
    assert not check_mean_over_seeds(drawn[1:], STYLE, 0.5).holds


def test_a_gain_may_have_a_floor_which_may_be_a_loss() -> None:
    pairs = pair_seeds([[0.1, 0.2] * 10] * 5)
    assert check_gain_over_seeds(pairs, STYLE, at_least=0.14).holds
    assert not check_gain_over_seeds(pairs, STYLE, at_least=0.16).holds
    assert not check_gain_over_seeds(pairs[1:], STYLE, at_least=0.14).holds
    lost = pair_seeds([[-0.04] * 20] * 5)
    assert check_gain_over_seeds(lost, STYLE, at_least=-0.05).holds
    assert not check_gain_over_seeds(lost, STYLE, at_least=-0.03).holds


def test_a_share_of_another_mean_is_reached_or_not() -> None:
    pairs = pair_seeds([[-0.1] * 20] * 5)  # 0.4 against 0.5
    verdict = check_share_over_seeds(pairs, STYLE, 0.75)
    assert verdict.holds
    assert verdict.figure.value == pytest.approx(0.4 - 0.75 * 0.5)
    assert not check_share_over_seeds(pairs, STYLE, 0.81).holds
    assert not check_share_over_seeds(pairs[1:], STYLE, 0.75).holds
