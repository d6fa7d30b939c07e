"""Rows, CSV, page and plot from made results. Run: python -m pytest tests/experiments/test_tables.py -q"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.catalogue import EXPERIMENTS, Experiment, get_experiment
from experiments.names import STYLE
from experiments.results import PARAMS_FILE, SCORES_FILE, SUMMARY_FILE, Cost, compare, read_result
from experiments.runs import TABLE1
from experiments.tables import CSV_COLUMNS, build_page, build_rows, list_csv_rows, read_csv_rows
from pipeline.artifacts import write_table
from pipeline.cost import keep_cost
from pipeline.files import write_bytes
from pipeline.json_files import write_json
from pipeline.schemas import SCORES
from pipeline.spreadsheets import write_csv
from tests.experiments.made import SMALL, good, make_evidence, make_result, make_small

DRAWN, MAPPED, CALIBRATED = "data/generation/ragar/generated.parquet", "data/mapper/mapper.safetensors", "data/reflection/calibrator.safetensors"

ALL_RESULTS = make_evidence(good, num_users=12).results


def test_a_row_holds_the_mean_and_the_paired_difference_to_the_default() -> None:
    rows = build_rows(SMALL, make_small({"default": [1.0, 1.0, 0.0, 0.0] * 3, "k-7": [1.0, 0.0, 0.0, 0.0] * 3}))
    assert [(row.point.label, row.value.value, row.value.n) for row in rows] == [("5", 0.5, 12), ("7", 0.25, 12)]
    assert rows[0].difference is None
    assert (rows[1].difference.value, rows[1].difference.n) == (-0.25, 12)
    assert rows[1].difference.low < -0.25 < rows[1].difference.high <= 0.0


def test_only_users_of_both_runs_are_paired() -> None:
    results = make_small({"default": [1.0, 1.0, 1.0], "k-7": [0.0, 0.0]})
    assert (rows := build_rows(SMALL, results))[1].difference.n == 2
    assert rows[1].difference.value == -1.0


def test_runs_of_different_seeds_are_never_paired() -> None:
    results = make_small({"default": [1.0, 1.0], "k-7": [0.0, 0.0]}, seeds=(0, 1))
    assert build_rows(SMALL, results)[1].difference is None
    assert compare((results["k-7"], "ragar"), (results["default"], "ragar"), STYLE) is None


def test_a_missing_run_is_left_out_and_named() -> None:
    results = make_small({"default": [1.0, 1.0], "k-7": [0.0, 0.0]})
    del results["k-7"]
    rows = build_rows(SMALL, results)
    assert [row.point.label for row in rows] == ["5"]
    assert "Not run: k-7. `make small` goes on with them." in build_page(SMALL, rows, results)


def test_a_method_is_compared_within_its_run_where_the_experiment_says_so() -> None:
    table4 = get_experiment("table4")
    rows = [row for row in build_rows(table4, {"table1": make_result(TABLE1, good)}) if row.metric.name == "hit_at_10"]
    trained = ["ti", "ti_retrieved", "pmg", "pmg_retrieved"]
    assert [row.method for row in rows] == ["original", "sd", "keywords", "retrieved", *trained, "global", "ragar", "truth"]
    assert rows[0].difference is None
    assert [round(row.difference.value, 6) for row in rows[1:]] == [0.1, 0.2, 0.3, 0.2, 0.21, 0.25, 0.24, 0.4, 0.8, 0.9]


def test_the_page_says_how_it_was_made_and_marks_what_excludes_zero() -> None:
    results = make_small({"default": [1.0] * 20, "k-7": [0.0] * 19 + [1.0]})
    page = build_page(SMALL, build_rows(SMALL, results), results)
    assert "Made by `make small`. Profile `embedded`, seed 0, 20 test users. 95% intervals: bootstrap over users, 100 resamples." in page
    assert "| 5 | 100.0% (100.0 … 100.0) | 20 |" in page
    assert re.search(r"\| 7 \| \*\*−95\.0%\*\* \(−100\.0 … −\d+\.\d\) \| 20 \|", page)
    assert "| k-7 | `retrieval.k=7` | `ragar-k-7-0000000000` |" in page
    assert "![every value with its interval](small.svg)" in page


def test_the_csv_has_every_figure_and_empty_cells_for_what_does_not_exist(tmp_path: Path) -> None:
    rows = list_csv_rows(build_rows(SMALL, make_small({"default": [1.0] * 10, "k-7": [0.5] * 10})))
    write_csv(tmp_path / "small.csv", rows, CSV_COLUMNS)
    lines = (tmp_path / "small.csv").read_text().splitlines()
    assert lines[0].split(",") == list(CSV_COLUMNS)
    assert lines[1] == "k,5,default,ragar-default-0000000000,ragar,style_accuracy,0,1,1,1,10,,,,"
    assert lines[2] == "k,7,k-7,ragar-k-7-0000000000,ragar,style_accuracy,0,0.5,0.5,0.5,10,-0.5,-0.5,-0.5,10"


def test_the_csv_is_read_back_without_differences(tmp_path: Path) -> None:
    rows = build_rows(SMALL, make_small({"default": [1.0, 0.0], "k-7": [0.25, 0.125]}))
    write_csv(tmp_path / "small.csv", list_csv_rows(rows), CSV_COLUMNS)
    assert read_csv_rows(SMALL, tmp_path / "small.csv") == [replace(row, difference=None) for row in rows]
    (tmp_path / "small.csv").write_text("group,label\nk,5\n")
    with pytest.raises(ValueError, match=r"small.csv is not the table that `make small` writes \('run'\)"):
        read_csv_rows(SMALL, tmp_path / "small.csv")


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_makes_a_page_the_same_every_time(experiment: Experiment) -> None:
    def make() -> str:
        results = {run.name: ALL_RESULTS[run.name] for run in experiment.list_runs()}
        return build_page(experiment, build_rows(experiment, results), results)

    page = make()
    assert page == make()
    for group in experiment.groups:
        assert f"## {group.title[0].upper()}{group.title[1:]}" in page


def test_scores_are_averaged_by_user_and_the_evaluations_own_bootstrap_is_used(tmp_path: Path) -> None:
    rows = [
        {"method": "ragar", "case_id": f"c{i}", "user_id": user, "style_accuracy": value, "effnet_truth": 10.0 * i}
        for i, (user, value) in enumerate([("a", 1.0), ("a", 0.0), ("b", 1.0)])
    ]
    write_table(tmp_path / SCORES_FILE, rows, SCORES, provenance={})
    summary = {
        "profile": "embedded",
        "perceptual": "effnet",
        "seed": 3,
        "interval": {"level": 0.9, "num_resamples": 70, "unit": "user"},
        "methods": {"ragar": {}},
    }
    write_bytes(tmp_path / PARAMS_FILE, b"dataset: {name: small}")
    for path, facts in {DRAWN: {"seconds_per_row": 0.5}, MAPPED: {"seconds": 2.0}, CALIBRATED: {"seconds": 3.0}}.items():
        write_bytes(tmp_path / path, path.encode())
        keep_cost(tmp_path / path, {"peak_memory_mb": 7.0, "device": "cpu", "num_threads": 2, **facts})
    write_json(tmp_path / SUMMARY_FILE, summary)
    write_bytes(tmp_path / "dvc.lock", b"stages: {}")
    result = read_result("ragar-x-0000000000", lambda path: tmp_path / path)
    assert result.get_users("ragar", STYLE) == {"a": 0.5, "b": 1.0}
    assert result.get_users("ragar", "distance_truth") == {"a": 5.0, "b": 20.0}
    assert result.average("ragar", STYLE).value == 0.75
    assert result.list_knobs() == {"seed": 3, "num_resamples": 70, "level": 0.9}
    assert result.get_users("ragar", "cpis") == {}
    assert result.dataset == "small"
    assert result.trainings == {}
    assert result.costs == {"ragar": Cost(True, 5.0, 0.5, 7.0, "2 threads")}
    write_bytes(tmp_path / CALIBRATED, b"made elsewhere")
    assert read_result("ragar-x-0000000000", lambda path: tmp_path / path).costs == {"ragar": Cost(True, None, 0.5, 7.0, "2 threads")}
    with pytest.raises(ValueError, match="no metric 'nonsense'"):
        result.get_users("ragar", "nonsense")
