"""Runs of several seeds as one table. Run: python -m pytest tests/experiments/test_pooling.py -q"""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.catalogue import get_experiment
from experiments.comparison import compare_methods
from experiments.comparison_page import build_page
from experiments.names import MAIN, STYLE
from experiments.pooling import pool_results
from experiments.results import Cost, RunResult
from experiments.runs import ARTIST_BEFORE_POINTS, ARTIST_POINTS, ARTIST_WORD_POINTS
from pipeline.metrics.intervals import compute_mean_interval, compute_nested_interval
from tests.experiments.made import make_result

ARTISTS = replace(get_experiment("artists"), metrics=(STYLE,))


def quality(run: str, method: str, metric: str) -> float:
    return 0.1 * int(run[-1]) + (0.3 if method == MAIN and "words" not in run else 0.1)


def make_results(*, seeds: int = 5) -> dict[str, RunResult]:
    runs = [point.run for point in (*ARTIST_POINTS[:seeds], *ARTIST_WORD_POINTS[:seeds], *ARTIST_BEFORE_POINTS[:seeds])]
    return {run.name: replace(make_result(run, quality, num_users=20), assignment_p={MAIN: 0.01}) for run in runs}


def test_a_pooled_row_holds_the_users_of_all_seeds_and_the_other_setting_has_a_row_of_its_own() -> None:
    pooled = pool_results(ARTISTS, make_results())
    assert pooled.seeds == (0, 1, 2, 3, 4)
    own, words = (pooled.average(name, STYLE) for name in (MAIN, f"{MAIN}_words"))
    assert (own.n, words.n) == (100, 100)
    assert own.value == pytest.approx(0.3 + 0.2 + 0.002)
    assert own.value - words.value == pytest.approx(0.2)
    assert "sd" in pooled.by_user
    assert "sd_words" not in pooled.by_user


def test_the_interval_is_over_seeds_as_well_as_users() -> None:
    pooled = pool_results(ARTISTS, make_results())
    users = pooled.get_users(MAIN, STYLE)
    nested, flat = pooled.average(MAIN, STYLE), compute_mean_interval(users, **pooled.list_knobs())
    assert nested.value == pytest.approx(flat.value)
    assert nested.high - nested.low > 3 * (flat.high - flat.low)  # the seeds differ, the users of one hardly


def test_a_difference_that_is_the_same_in_every_seed_has_a_narrow_interval() -> None:
    cells = compare_methods(ARTISTS, pool_results(ARTISTS, make_results()))
    cell = cells[f"{MAIN}_words", STYLE]
    assert cell.difference.low == pytest.approx(0.2, abs=1e-6)
    assert cell.verdict == "better"


def test_costs_are_the_medians_of_the_seeds_that_measured_them() -> None:
    cost = Cost(is_trained=True, training_seconds=10.0, seconds_per_image=0.1, peak_memory_mb=None, machine="1 thread")
    trainings = (10.0, None, 4000.0, 12.0, 11.0)  # the machine stood still in one of them, and one took its training from the cache
    results = make_results()
    for seconds, point in zip(trainings, ARTIST_POINTS, strict=True):
        costs, stages = {MAIN: replace(cost, training_seconds=seconds)}, {"ranker": seconds} if seconds else {}
        results[point.run.name] = replace(results[point.run.name], costs=costs, stage_seconds=stages)
    pooled = pool_results(ARTISTS, results)
    assert pooled.costs == {MAIN: replace(cost, training_seconds=11.5)}
    assert pooled.stage_seconds == {"ranker": 11.5}
    assert "Once for all users, and in no row: the ranker (RAGAR) 11.5 s." in build_page(ARTISTS, pooled, compare_methods(ARTISTS, pooled))


def test_one_seed_gives_the_bootstrap_over_users_and_few_users_none() -> None:
    values = {(0, f"u{user}"): float(user % 2) for user in range(200)}
    nested, plain = (compute(values, seed=0, num_resamples=500) for compute in (compute_nested_interval, compute_mean_interval))
    assert (nested.value, nested.n) == (0.5, 200)
    assert (nested.low, nested.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    assert compute_nested_interval({(0, "u"): 1.0}, seed=0).low is None
    assert compute_nested_interval({}, seed=0).value is None


def test_the_page_names_the_seeds_and_the_permutation_tests() -> None:
    pooled = pool_results(ARTISTS, make_results(seeds=2))
    page = build_page(ARTISTS, pooled, compare_methods(ARTISTS, pooled))
    assert "seeds 0, 1, 40 test users" in page
    assert "bootstrap over seeds and users" in page
    assert "| RAGAR | 0.010, 0.010 |" in page
    assert any(line.startswith("| RAGAR, words alone |") for line in page.splitlines())
    assert "`ragar-artists-0-0000000000`, `ragar-artists-1-0000000000`" in page


def test_an_experiment_of_one_run_is_left_as_it_is() -> None:
    (run,) = get_experiment("table1").list_runs()
    result = make_result(run, lambda *_: 0.5, num_users=4)
    assert pool_results(get_experiment("table1"), {run.name: result}) is result
