"""Claims hold where they should and fail where they should. Run: python -m pytest tests/experiments/test_check_claims.py -q"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import check_claims
from experiments.catalogue import EXPERIMENTS, get_experiment, list_runs
from experiments.check_claims import (
    Checked,
    build_entry,
    check_complete,
    format_claims,
    gather_evidence,
)
from experiments.claim_list import CLAIMS
from experiments.claim_rules import (
    Claim,
    check_apart,
    check_at_least,
    check_gain,
    check_kept,
    check_no_loss_in_any_seed,
    check_rise_and_fall,
    check_same_story,
    check_seconds,
    check_users,
    compute_gain,
)
from experiments.names import STYLE
from experiments.results import RunResult, compute_held_out_share
from experiments.runs import DEFAULT, SEED_POINTS
from pipeline.data.openmoji import is_held_out
from pipeline.json_files import read_json
from pipeline.metrics.definitions import define_metrics
from tests.experiments.made import bad, good, make_evidence

GOOD = make_evidence(good)
BAD = make_evidence(bad, num_users=60, share=0.9, seconds=400.0)
DISTANCE = "effnet_truth"


def make(values: list[float], *, metric: str = STYLE, seed: int = 0, name: str = "x") -> tuple[RunResult, str]:
    """Make a run with one method and one metric, a value per user."""
    metrics = {m.name: m for m in define_metrics("effnet")}
    by_user = {"ragar": {metric: {f"u{i}": value for i, value in enumerate(values)}}}
    return RunResult(f"ragar-{name}-0000000000", "embedded", "effnet", seed, 400, 0.95, metrics, by_user), "ragar"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_every_claim_holds_in_a_good_world_and_fails_in_a_bad_one(claim: Claim) -> None:
    assert claim.check(GOOD).holds
    assert not claim.check(BAD).holds


def test_claim_names_are_unique_and_each_names_an_experiment() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        get_experiment(claim.experiment)


def test_a_mean_at_the_floor_holds_and_below_it_does_not() -> None:
    assert check_at_least(make([1.0] * 8 + [0.0] * 2), STYLE, 0.80).holds
    assert not check_at_least(make([1.0] * 7 + [0.0] * 3), STYLE, 0.80).holds


def test_two_hundred_users_are_enough_and_one_less_is_not() -> None:
    assert check_users(make([1.0] * 200), STYLE, 200).holds
    assert not check_users(make([1.0] * 199), STYLE, 200).holds


def test_a_gain_of_exactly_the_threshold_holds() -> None:
    first, second = make([1.0] * 10), make([1.0] * 8 + [0.0] * 2, name="y")
    assert check_gain(first, second, STYLE, at_least=0.20).holds
    assert not check_gain(first, second, STYLE, at_least=0.21).holds


def test_a_positive_gain_whose_interval_holds_zero_is_no_gain() -> None:
    verdict = check_gain(make([1.0, 0.0] * 10 + [1.0]), make([0.0, 1.0] * 10 + [0.0], name="y"), STYLE)
    assert verdict.figure.value > 0 > verdict.figure.low
    assert not verdict.holds


def test_a_smaller_distance_is_a_gain() -> None:
    near, far = make([1.0, 2.0, 3.0] * 4, metric=DISTANCE), make([3.0, 4.0, 5.5] * 4, metric=DISTANCE, name="y")
    assert compute_gain(near, far, DISTANCE).value == pytest.approx(6.5 / 3)
    assert check_gain(near, far, DISTANCE).holds
    assert not check_gain(far, near, DISTANCE).holds


def test_a_concept_may_lose_the_margin_and_not_more() -> None:
    keyword = make([1.0] * 100, name="y")
    assert check_kept(make([1.0] * 95 + [0.0] * 5), keyword, STYLE, margin=0.05).holds
    assert not check_kept(make([1.0] * 94 + [0.0] * 6), keyword, STYLE, margin=0.05).holds
    assert check_kept(keyword, make([0.0] * 100), STYLE, margin=0.05).holds  # a gain is no loss


def test_intervals_that_overlap_are_not_apart_even_if_every_user_gains() -> None:
    spread = [i / 20 for i in range(20)]
    first, second = make([value + 0.05 for value in spread]), make(spread, name="y")
    verdict = check_apart(first, second, STYLE)
    assert verdict.figure.low == pytest.approx(0.05)
    assert not verdict.holds
    assert check_apart(make([value + 1 for value in spread]), second, STYLE).holds
    assert not check_apart(second, make([value + 1 for value in spread]), STYLE).holds


def test_apart_follows_the_direction_of_the_metric() -> None:
    near, far = make([1.0, 1.1, 1.2] * 4, metric=DISTANCE), make([5.0, 5.1, 5.2] * 4, metric=DISTANCE, name="y")
    assert check_apart(near, far, DISTANCE).holds
    assert not check_apart(far, near, DISTANCE).holds


@pytest.mark.parametrize(
    ("means", "holds", "told"),
    [
        ((0.2, 0.6, 0.4), True, "best at k = 1"),
        ((0.2, 0.4, 0.6), False, "best at k = 2"),
        ((0.6, 0.4, 0.2), False, "best at k = 0"),
        ((0.4, 0.4, 0.4), False, "best at k = 0"),
        ((0.3, 0.2, 0.6, 0.1), False, "against the direction: k = 0 to k = 1"),
        ((0.1, 0.6, 0.3, 0.4), False, "against the direction: k = 2 to k = 3"),
    ],
)
def test_a_curve_rises_and_falls_only_with_its_best_inside(means: tuple[float, ...], holds: bool, told: str) -> None:
    points = [(f"k = {k}", make([mean] * 10, name=f"k-{k}")) for k, mean in enumerate(means)]
    verdict = check_rise_and_fall(points, STYLE)
    assert verdict.holds is holds
    assert told in verdict.note


def test_a_step_back_within_its_interval_does_not_spoil_a_curve() -> None:
    wobble = [0.5, 0.1] * 10
    points = [("0", [0.0] * 20), ("1", [0.4, 0.3] * 10), ("2", wobble), ("3", [0.9] * 20), ("4", [0.2] * 20)]
    verdict = check_rise_and_fall([(label, make(values, name=f"k-{label}")) for label, values in points], STYLE)
    assert verdict.figure.value == pytest.approx(0.7)
    assert verdict.holds


def test_a_best_point_that_is_not_clearly_above_an_end_is_no_peak() -> None:
    points = [("0", make([1.0, 0.0] * 10)), ("1", make([0.0, 1.0] * 9 + [1.0, 1.0], name="y")), ("2", make([0.0] * 20, name="z"))]
    assert not check_rise_and_fall(points, STYLE).holds


def test_seeds_agree_only_if_each_excludes_zero_on_the_same_side() -> None:
    def pair(seed: int, gain: float) -> tuple[tuple[RunResult, str], tuple[RunResult, str]]:
        return make([0.5 + gain] * 10, seed=seed), make([0.5] * 10, seed=seed, name="y")

    verdict = check_same_story([pair(0, 0.3), pair(1, 0.2), pair(2, 0.1)], STYLE)
    assert verdict.holds
    assert verdict.figure.value == pytest.approx(0.2)
    assert (verdict.figure.n, verdict.seeds) == (30, (0, 1, 2))
    assert not check_same_story([pair(0, 0.3), pair(1, 0.2), pair(2, 0.0)], STYLE).holds
    assert not check_same_story([pair(0, 0.3), pair(1, 0.2), pair(2, -0.1)], STYLE).holds
    assert not check_same_story([pair(0, 0.3), pair(1, 0.2)], STYLE).holds
    assert not check_same_story([pair(0, 0.3), pair(0, 0.3), pair(0, 0.3)], STYLE).holds


def test_a_loss_in_one_seed_is_a_loss() -> None:
    def pair(seed: int, gain: float) -> tuple:
        return make([0.5 + gain] * 10, seed=seed), make([0.5] * 10, seed=seed)

    verdict = check_no_loss_in_any_seed([pair(0, 0.3), pair(1, 0.0), pair(2, 0.0)], STYLE)
    assert (verdict.holds, verdict.figure.n, verdict.seeds) == (True, 30, (0, 1, 2))
    assert not check_no_loss_in_any_seed([pair(0, 0.3), pair(1, 0.0), pair(2, -0.1)], STYLE).holds


def test_users_of_different_seeds_are_never_paired() -> None:
    with pytest.raises(ValueError, match="different seeds"):
        compute_gain(make([1.0], seed=0), make([0.0], seed=1), STYLE)


def test_a_claim_about_nothing_is_an_error() -> None:
    empty = make([])
    with pytest.raises(ValueError, match="has no style_accuracy of 'ragar'"):
        check_at_least(empty, STYLE, 0.8)


def test_time_must_be_known_embedded_and_below_the_limit_in_every_run() -> None:
    result = make([1.0])[0]
    verdict = check_seconds({0: 41.0, 2: 89.9}, 90, stage="ranker", result=result)
    assert (verdict.holds, verdict.figure.value, verdict.figure.n, verdict.seeds) == (True, 89.9, 2, (0, 2))
    assert not check_seconds({0: 41.0, 2: 90.0}, 90, stage="ranker", result=result).holds
    unknown = check_seconds({}, 90, stage="ranker", result=result)
    assert (unknown.holds, unknown.figure.value) == (False, None)
    assert "not measured: no data/ranker/metrics.json" in unknown.note
    paper = dataclasses.replace(result, profile="paper")
    assert not check_seconds({0: 41.0}, 90, stage="ranker", result=paper).holds


def test_evidence_joins_results_truths_and_times() -> None:
    results = dict(GOOD.results)
    for seed, point in enumerate(SEED_POINTS):
        seconds = {"ranker": 40.0 + seed, "dataset": 1.0} if seed != 2 else {}
        results[point.run.name] = dataclasses.replace(results[point.run.name], stage_seconds=seconds)
    results[DEFAULT.name] = dataclasses.replace(results[DEFAULT.name], held_out_share=0.5)
    evidence = gather_evidence(results)
    assert evidence.held_out_share == 0.5
    assert evidence.seconds == {"ranker": {0: 40.0, 1: 41.0, 3: 43.0, 4: 44.0}, "reflection": {}}
    assert evidence.results is results


def test_only_test_users_with_a_known_truth_count_as_held_out() -> None:
    names = [f"1F{i:03X}" for i in range(200)]
    held = next(name for name in names if is_held_out(name, "neon"))
    seen = next(name for name in names if not is_held_out(name, "neon"))
    labels = [{"item_id": f"{name}-neon", "style": "neon"} for name in (held, seen)]
    cases = [{"split": "test", "truth_id": f"{held}-neon"}, {"split": "train", "truth_id": f"{seen}-neon"}, {"split": "test", "truth_id": None}]
    assert compute_held_out_share(cases, labels) == 1.0
    assert compute_held_out_share([*cases, {"split": "test", "truth_id": f"{seen}-neon"}], labels) == 0.5
    assert compute_held_out_share([], labels) is None


def test_missing_experiments_are_named_with_their_make_targets() -> None:
    results = {run.name: GOOD.results[run.name] for run in list_runs(EXPERIMENTS) if run.name not in ("k-7", "random", "alpha-0")}
    needed = [get_experiment(name) for name in ("fig2", "fig5", "seeds")]
    with pytest.raises(ValueError, match=r"`make fig2` \(not finished: random\); `make fig5` \(not finished: k-7, alpha-0\)\.$"):
        check_complete(needed, results)
    check_complete([get_experiment("seeds")], results)


def test_an_entry_has_everything_that_a_reader_needs() -> None:
    claim = next(claim for claim in CLAIMS if claim.name == "style-retrieval")
    entry = build_entry(Checked(claim, claim.check(GOOD)))
    assert set(entry) == {"id", "sentence", "value", "interval", "n", "seeds", "holds", "threshold", "note", "source"}
    assert entry["value"] == pytest.approx(0.55)
    assert entry["interval"] == pytest.approx([0.55, 0.55])
    assert (entry["n"], entry["seeds"], entry["holds"]) == (200, [0], True)
    assert (entry["threshold"], entry["source"]) == ("gain >= 0.2", "docs/results/fig5.csv")


def test_the_table_counts_what_holds() -> None:
    lines = format_claims([Checked(claim, claim.check(BAD)) for claim in CLAIMS])
    assert lines[-1].startswith(f"0 of {len(CLAIMS)} claims hold")
    assert all(line.startswith("DOES NOT") for line in lines[:-1])


@pytest.mark.parametrize(("evidence", "held"), [(GOOD, len(CLAIMS)), (BAD, 0)], ids=["good", "bad"])
def test_the_command_succeeds_whatever_holds_and_writes_the_same_bytes(evidence, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_claims, "find_root", lambda: tmp_path)
    monkeypatch.setattr(check_claims, "read_inputs", lambda root: None)
    monkeypatch.setattr(check_claims, "plan_runs", lambda runs, inputs, root: [])
    monkeypatch.setattr(check_claims.Records, "read", lambda self, plans: evidence.results)
    monkeypatch.setattr(check_claims, "gather_evidence", lambda results: evidence)
    outcome = CliRunner().invoke(check_claims.app, [])
    assert outcome.exit_code == 0, outcome.output
    assert f"{held} of {len(CLAIMS)} claims hold" in outcome.output
    path = tmp_path / "docs" / "results" / "claims.json"
    written = path.read_bytes()
    assert sum(entry["holds"] for entry in read_json(path)) == held
    CliRunner().invoke(check_claims.app, [])
    assert path.read_bytes() == written


def test_the_default_run_is_the_one_that_most_claims_look_at() -> None:
    assert GOOD.get(DEFAULT)[0] is GOOD.results["ret"]
