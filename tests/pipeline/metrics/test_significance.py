"""Paired randomisation test and Holm's correction. Run: `python -m pytest tests/pipeline/metrics/test_significance.py`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.metrics.significance import adjust_holm, compute_flip_p


def by_user(values: list[float]) -> dict[str, float]:
    return {f"u{index}": value for index, value in enumerate(values)}


def test_the_p_value_is_the_share_of_sign_flips_with_as_large_a_mean() -> None:
    difference = np.array([0.5, 1.0, -0.2, 0.7, 0.1, 0.9, -0.1, 0.3])
    means = np.abs(np.array(list(itertools.product((1, -1), repeat=8))) @ difference)
    exact = (means >= difference.sum() * (1 - 1e-12)).mean()
    assert compute_flip_p(by_user(list(difference)), by_user([0.0] * 8), seed=0) == exact


def test_of_many_users_a_sample_of_the_flips_is_looked_at() -> None:
    difference = np.random.default_rng(1).normal(0.15, 1, 60)
    signs = np.random.default_rng(2).integers(0, 2, size=(50_000, 60)) * 2 - 1
    share = (np.abs(signs @ difference) >= abs(difference.sum())).mean()
    found = compute_flip_p(by_user(list(difference)), by_user([0.0] * 60), seed=0)
    assert found == pytest.approx(share, abs=0.015)  # three standard errors of 10,000 flips


def test_equal_values_are_no_evidence_and_a_large_effect_has_the_smallest_p() -> None:
    assert compute_flip_p(by_user([1.0] * 5), by_user([1.0] * 5), seed=0, num_flips=99) == 1.0
    assert compute_flip_p(by_user([1.0] * 100), by_user([0.0] * 100), seed=0, num_flips=999) == 1 / 1000


def test_only_shared_users_are_paired() -> None:
    assert compute_flip_p({"a": 1.0, "b": 5.0}, {"a": 0.0, "c": 9.0}, seed=0) == 1.0  # one user: both flips are as large
    assert compute_flip_p({"a": 1.0}, {"b": 1.0}, seed=0) is None


def test_the_seed_decides_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    first, second = by_user(list(generator.normal(0.3, 1, 40))), by_user([0.0] * 40)
    p = compute_flip_p(first, second, seed=0)
    assert p == compute_flip_p(first, second, seed=0)
    monkeypatch.setattr("pipeline.metrics.significance.MAX_SIGNS", 400)
    assert compute_flip_p(first, second, seed=0) == pytest.approx(p, abs=0.02)


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0]
    assert adjust_holm([]) == []
