"""Bootstrap intervals by hand. Run: python -m pytest tests/pipeline/metrics -q"""

import math

import numpy as np
import pytest

from pipeline.metrics.intervals import Interval, average_by_user, compute_mean_interval, compute_paired_interval


def make_values(num_users: int, seed: int = 0) -> dict[str, float]:
    values = np.random.default_rng(seed).gamma(2.0, size=num_users)
    return {f"u{i:04d}": float(v) for i, v in enumerate(values)}


def test_interval_is_made_of_the_quantiles_of_resampled_means():
    by_user = make_values(40)
    found = compute_mean_interval(by_user, seed=7, num_resamples=2000)
    values = np.array(list(by_user.values()))
    means = values[np.random.default_rng(7).integers(0, 40, size=(2000, 40))].mean(axis=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-12)
    assert found.value == pytest.approx(values.mean())


def test_drawing_in_chunks_changes_nothing(monkeypatch):
    whole = compute_mean_interval(make_values(50), seed=1, num_resamples=100)
    monkeypatch.setattr("pipeline.metrics.intervals.MAX_DRAWS", 333)
    found = compute_mean_interval(make_values(50), seed=1, num_resamples=100)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_users", [10, 11, 200])
def test_users_that_agree_get_an_interval_without_width(num_users):
    assert compute_mean_interval(dict.fromkeys(range(num_users), 0.25), seed=0) == Interval(0.25, 0.25, 0.25, num_users)


@pytest.mark.parametrize("num_users", [2, 4, 9])
def test_fewer_than_ten_users_have_a_mean_and_no_interval(num_users):
    by_user = make_values(num_users)
    assert compute_mean_interval(by_user, seed=0) == Interval(pytest.approx(np.mean(list(by_user.values()))), None, None, num_users)
    found = compute_paired_interval(dict.fromkeys(by_user, 3.0), dict.fromkeys(by_user, 1.0), seed=0)
    assert found == Interval(2.0, None, None, num_users)


def test_worked_case_of_two_users(monkeypatch):
    # Means of two draws from {0, 1}: 0 with probability 1/4, 0.5 with 1/2, 1 with 1/4; the 2.5% and 97.5% quantiles are 0 and 1.
    monkeypatch.setattr("pipeline.metrics.intervals.MIN_USERS", 2)
    assert compute_mean_interval({"a": 0.0, "b": 1.0}, seed=0) == Interval(0.5, 0.0, 1.0, 2)


def test_interval_covers_the_true_mean_about_95_times_in_100():
    hits = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=60)
        found = compute_mean_interval({i: float(v) for i, v in enumerate(values)}, seed=seed, num_resamples=400)
        hits += found.low <= 0 <= found.high
    assert 0.90 <= hits / 200 <= 0.985  # binomial spread of 200 trials around .95 (percentile intervals are slightly short)


def test_a_user_counts_once_whatever_the_number_of_cases():
    by_user = average_by_user(["a", "a", "a", "b"], [1.0, 2.0, 3.0, 10.0])
    assert by_user == {"a": 2.0, "b": 10.0}


def test_missing_values_are_left_out_and_users_without_any_do_not_count():
    by_user = average_by_user(["a", "a", "b", "c"], [1.0, None, math.nan, 4.0])
    assert by_user == {"a": 1.0, "c": 4.0}
    assert compute_mean_interval(by_user, seed=0).n == 2


def test_no_user_gives_no_value_and_one_user_gives_no_interval():
    assert compute_mean_interval({}, seed=0) == Interval(None, None, None, 0)
    assert compute_mean_interval({"a": 3.0}, seed=0) == Interval(3.0, None, None, 1)


def test_paired_interval_uses_only_users_that_have_both():
    found = compute_paired_interval({"a": 3.0, "b": 5.0, "c": 100.0}, {"a": 1.0, "b": 3.0, "d": 9.0}, seed=0)
    assert found == Interval(2.0, None, None, 2)


def test_paired_interval_is_shorter_than_the_unpaired_ones_when_users_differ_much():
    base = make_values(80)
    better = {user: value + 0.1 for user, value in base.items()}
    paired = compute_paired_interval(better, base, seed=0)
    single = compute_mean_interval(base, seed=0)
    assert paired.low == pytest.approx(0.1)
    assert paired.high == pytest.approx(0.1)
    assert single.high - single.low > 0.1


def test_interval_does_not_depend_on_the_order_of_users():
    by_user = make_values(30)
    assert compute_mean_interval(by_user, seed=3) == compute_mean_interval(dict(reversed(by_user.items())), seed=3)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_outside_0_and_1_is_refused(level):
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        compute_mean_interval({"a": 1.0}, seed=0, level=level)


def test_one_resample_makes_no_interval():
    with pytest.raises(ValueError, match="num_resamples at least 2"):
        compute_mean_interval({"a": 1.0}, seed=0, num_resamples=1)
