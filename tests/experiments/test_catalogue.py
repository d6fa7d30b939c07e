"""The declared experiments fit the project's parameters. Run: python -m pytest tests/experiments/test_catalogue.py -q"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.catalogue import EXPERIMENTS, get_experiment, list_runs
from experiments.plan import compose_run
from experiments.results import DISTANCES
from experiments.runs import (
    BASELINE_POINTS,
    DEFAULT,
    GLOBAL_POINTS,
    GRAPH_POINTS,
    K_POINTS,
    KEYWORD_POINTS,
    LONGEST,
    R_POINTS,
    REWARD_POINTS,
    STRATEGY_POINTS,
    STRENGTH_POINTS,
    TARGET_POINTS,
    TEXT_POINTS,
    TUNED,
    Run,
)
from pipeline.feasibility.blocks import CONFIGS
from pipeline.metrics.definitions import define_metrics
from pipeline.params import build_config

REPO = Path(__file__).resolve().parents[2]
RUNS = list_runs(EXPERIMENTS)
BLOCKS = {name: CONFIGS[name] for name in ("retrieval", "preference", "reflection", "ti", "ti_retrieved", "pmg", "pmg_retrieved", "evaluation")}


@functools.cache
def compose(run: Run) -> dict[str, Any]:
    return compose_run(run, REPO)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_runs_overrides_compose_and_pass_the_stages_own_checks(run: Run) -> None:
    params = compose(run)
    for block, config in BLOCKS.items():
        build_config(params[block], config, where=run.name)


@pytest.mark.parametrize("run", [run for run in RUNS if run.name not in ("literal", "table1")], ids=lambda run: run.name)
def test_an_override_sets_the_value_that_it_names(run: Run) -> None:
    for override in run.overrides:
        name, value = override.split("=")
        if (REPO / "conf" / name).is_dir():  # a group, whose values stand in its file
            assert (REPO / "conf" / name / f"{value}.yaml").is_file()
            continue
        found: Any = compose(run)
        for part in name.split("."):
            found = found[part]
        assert found == yaml.safe_load(value), override


SWEEPS = (K_POINTS, STRATEGY_POINTS, TEXT_POINTS, KEYWORD_POINTS, GLOBAL_POINTS, GRAPH_POINTS)


@pytest.mark.parametrize("points", SWEEPS, ids=lambda points: points[0].run.name)
def test_the_default_is_one_point_of_every_sweep(points: tuple) -> None:
    assert sum(compose(point.run) == compose(DEFAULT) for point in points) == 1


def test_perturbations_rewards_and_baselines_are_compared_at_the_last_step_and_share_the_default_reading() -> None:
    composed = [compose(point.run) for point in (*REWARD_POINTS, *BASELINE_POINTS, *R_POINTS)]
    assert {params["reflection"]["keep"] for params in composed} == {"last"}
    assert [params["reflection"]["num_perturbations"] for params in composed[-len(R_POINTS) :]] == [0, 1, 3, 5, 7]
    reflection = {**compose(DEFAULT)["reflection"], "keep": "last", "patience": 0}
    assert composed[0] == composed[3] == composed[7] == {**compose(DEFAULT), "reflection": reflection}


def test_the_baselines_steps_are_swept_on_validation_users_alone_around_the_default() -> None:
    composed = [compose(point.run) for point in (*STRENGTH_POINTS, *TARGET_POINTS)]
    assert {(params["evaluation"]["split"], *params["generation"]["splits"]) for params in composed} == {("val", "val")}
    steps = [[params[method]["num_steps"] for method in TUNED] for params in composed[: len(STRENGTH_POINTS)]]
    assert steps == [[int(point.label)] * len(TUNED) for point in STRENGTH_POINTS]
    assert sum(params == composed[len(STRENGTH_POINTS)] for params in composed[: len(STRENGTH_POINTS)]) == 1  # the default's steps are one of them
    assert all(all(params["comparison"][method] for method in (*TUNED, "ragar")) for params in composed)
    longest = compose(LONGEST.run)
    assert [longest[method]["num_steps"] for method in ("pmg", "pmg_retrieved")] == [160, 160]
    assert not longest["comparison"]["ti"]


def test_the_literal_method_is_the_config_group_of_that_name() -> None:
    literal = next(run for run in RUNS if run.name == "literal")
    assert literal.overrides == ("method=literal",)
    printed = yaml.safe_load((REPO / "conf" / "method" / "literal.yaml").read_text(encoding="utf-8"))
    params = compose(literal)
    assert all(params[block][name] == value for block, choices in printed.items() for name, value in choices.items())
    assert params != compose(DEFAULT)


def test_names_are_unique_and_a_run_has_one_name() -> None:
    assert len({experiment.name for experiment in EXPERIMENTS}) == len(EXPERIMENTS)
    assert len({run.name for run in RUNS}) == len(RUNS) == len({run.overrides for run in RUNS})


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_starts_from_the_one_default_run(experiment) -> None:
    runs = experiment.list_runs()
    assert runs[0] is DEFAULT or experiment.is_comparison
    assert len(set(runs)) == len(runs)


def test_metrics_are_columns_of_the_evaluation() -> None:
    defined = {metric.name for metric in define_metrics("effnet")} | set(DISTANCES)
    wanted = {metric for experiment in EXPERIMENTS for metric in experiment.metrics}
    assert wanted <= defined


def test_fig5_sweeps_what_the_issue_lists() -> None:
    assert [point.label for point in K_POINTS] == ["0", "1", "3", "5", "7", "10", "19"]
    assert [point.label for point in R_POINTS] == ["0", "1", "3", "5", "7"]
    assert {"no retrieval", "no rank reward"} <= {point.label for group in get_experiment("fig5").groups for point in group.points}


def test_an_unknown_experiment_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'fig3'.*fig2, fig5, table4"):
        get_experiment("fig3")
