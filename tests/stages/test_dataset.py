"""The dataset stage from the command line: whole tables and what its check says. Run: python -m pytest tests/stages/test_dataset.py"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.artifacts import read_table
from pipeline.compose import compose_params
from pipeline.json_files import read_json
from pipeline.schemas import CASES, INTERACTIONS, ITEMS, LABELS, REJECTED
from stages import dataset, entry
from tests.raw_sets import write_csv_rows
from tests.stages.dataset_project import MAKERS, Project
from tests.test_repo_rules import REPO

TABLES = ("items", "interactions", "cases", "labels", "rejected")


@pytest.mark.parametrize("name", MAKERS)
def test_the_tables_are_whole_and_every_named_item_has_one_outcome(name: str, make_project, capsys) -> None:
    project = make_project(name)
    assert project.run() == 0, capsys.readouterr().err
    items, cases = read_table(project.out / "items.parquet", ITEMS), read_table(project.out / "cases.parquet", CASES).to_pylist()
    known = set(items["item_id"].to_pylist())
    assert cases
    assert all({*case["history"], case["reference_id"]} <= known for case in cases)
    assert read_table(project.out / "interactions.parquet", INTERACTIONS).num_rows > 0
    assert read_table(project.out / "labels.parquet", LABELS).num_rows == 0
    rejected = read_table(project.out / "rejected.parquet", REJECTED).to_pylist()
    with (project.out / "missing.csv").open(encoding="utf-8", newline="") as file:
        missing = sorted(row["item_id"] for row in csv.DictReader(file))
    users = [row for row in rejected if row["row_key"].startswith("user/")]
    assert missing == [row["row_key"] for row in rejected if row not in users]
    summary = read_json(project.out / "summary.json")
    assert summary["missing_images"] == len(missing) >= 1
    assert summary.get("users_left_out", 0) == len(users)
    assert f"{len(items) + len(missing)} rows in, {len(items)} computed, 0 reused, {len(missing)} rejected" in capsys.readouterr().out


@pytest.mark.parametrize("name", MAKERS)
def test_check_says_that_all_is_well_and_writes_no_table(name: str, make_project, capsys) -> None:
    project = make_project(name)
    assert project.run("--check") == 0
    assert f"the data set {name} can be used" in capsys.readouterr().out
    assert not list(project.out.glob("*.parquet"))


def test_check_lists_every_problem_with_its_line(make_project, capsys) -> None:
    project = make_project("folder")
    with (project.raw / "interactions.csv").open("a") as file:
        file.writelines(f"u,unknown-{n},1\n" for n in range(150))
        file.write("u,000,monday\n")
    sentence = (
        "interactions.csv, line 112: the item_id 'unknown-0' is not in the table of items. "
        "So it is in 150 lines, also line 113 ('unknown-1') and line 114 ('unknown-2')."
    )
    assert project.run() == 2
    assert f"{sentence} And 1 more kind of problems; `python -m stages.dataset --check` lists them." in capsys.readouterr().err
    assert project.run("--check") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(sentence)
    assert "interactions.csv, line 262: the timestamp 'monday' is neither a number nor a date that is known" in lines[1]
    assert lines[2] == "error: the data set has 151 problems."


def test_rows_that_are_left_out_are_printed_and_in_the_table_of_rejected_rows(make_project, capsys) -> None:
    project = make_project("folder")
    with (project.raw / "interactions.csv").open("a") as file:
        file.write("u,000,\nu,001,n/a\n")
    place, reason = project.raw / "interactions.csv", "`timestamp` says no time, so the row has no place in the order; it is left out."
    reason += " So it is in 2 lines, also line 113."
    assert project.run("--check") == 0
    assert f"{place}, line 112: {reason}" in capsys.readouterr().out.splitlines()
    assert project.run() == 0
    rejected = {row["row_key"]: row["reason"] for row in read_table(project.out / "rejected.parquet", REJECTED).to_pylist()}
    assert rejected[f"{place}, line 112"] == reason
    assert read_json(project.out / "summary.json")["rows_left_out"] == 2


def test_users_left_out_are_printed_and_named_in_the_table_of_rejected_rows(make_project, capsys) -> None:
    project = make_project("folder")
    with (project.raw / "interactions.csv").open("a") as file:
        file.write("anna,000,5\n")
    assert project.run() == 0
    reason = "the user 'anna' is left out: 0 items with a readable image besides the reference, fewer than dataset.min_history, 3."
    rejected = {row["row_key"]: row["reason"] for row in read_table(project.out / "rejected.parquet", REJECTED).to_pylist()}
    assert rejected["user/anna"] == reason
    assert reason in capsys.readouterr().out.splitlines()


def make_users(project: Project, num_users: int, items: list[str]) -> None:
    rows = [[f"user-{n}", item] for n in range(num_users) for item in items[n:] + items[:n]]
    write_csv_rows(project.raw / "interactions.csv", ["user_id", "item_id"], rows)


@pytest.mark.parametrize("num_users", [3, 5, 7])
def test_a_few_users_are_in_every_split_and_the_figures_to_expect_are_named(num_users: int, make_project, capsys) -> None:
    project = make_project("folder")
    assert project.params["dataset"]["splits"] == [0.8, 0.1, 0.1]
    make_users(project, num_users, [f"{n:03d}" for n in range(12)])
    assert project.run("--check") == 0
    printed = capsys.readouterr().out
    assert "note: evaluation scores 1 test user. One user has no interval, and says nothing of others." in printed
    assert "fewer than the 99 that are to be sampled" in printed
    assert project.run() == 0
    assert read_json(project.out / "summary.json")["cases"] == {"train": num_users - 2, "val": 1, "test": 1}


def test_two_users_are_too_few_and_the_sentence_says_what_makes_more(make_project, capsys) -> None:
    project = make_project("folder")
    make_users(project, 2, [f"{n:03d}" for n in range(12)])
    assert project.run("--check") == 2
    assert (
        "only 2 users have a reference and enough history items with a readable image, but at least 3 are needed, one for each split; "
        "add interactions, or lower dataset.min_history (3). 1 images of items are missing, e.g. "
    ) in capsys.readouterr().err


def test_what_a_later_stage_could_not_run_on_is_refused_before_any_table_is_written(make_project, capsys) -> None:
    project = make_project("folder")
    project.params["dataset"]["splits"] = [0.8, 0.0, 0.2]
    project.params["generation"]["splits"] = ["train"]
    obstacles = [
        "reflection needs a user of the split val, but none of the 12 is in it; set dataset.splits=[0.7,0.1,0.2].",
        "evaluation.split is test, but generation.splits is [train]; set generation.splits=[train,test].",
    ]
    assert project.run("--check") == 2
    assert capsys.readouterr().err.splitlines() == [*obstacles, "error: the data set has 2 problems."]
    assert project.run() == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {obstacles[0]} And 1 more kind of problems; `python -m stages.dataset --check` lists them."
    ]
    assert [path.name for path in project.out.iterdir()] == ["missing.csv"]


def test_users_who_have_seen_every_item_are_refused_with_the_parameter_that_helps(make_project, capsys) -> None:
    project = make_project("folder")
    rows = [[f"user-{n}", item] for n in range(6) for item in ("000", "001", "002", "003", "004")]
    write_csv_rows(project.raw / "interactions.csv", ["user_id", "item_id"], rows)
    assert project.run() == 2
    assert "every user has seen every item that may be drawn (ranker.negatives interacted); set ranker.negatives=all." in capsys.readouterr().err
    project.params["ranker"]["negatives"] = "all"
    assert project.run() == 0


@pytest.mark.parametrize("name", ["artmoji_small", "stylemoji_small"])
def test_a_data_set_with_simulated_users_has_labels_and_truths_and_the_same_bytes_each_time(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(entry, "setup_logging", lambda: None)
    monkeypatch.chdir(REPO)  # where the raw files of both lie

    def run(out: str, *overrides: str) -> Path:
        compose_params([f"dataset={name}", *overrides], conf=REPO / "conf", out=tmp_path / "params.yaml")
        monkeypatch.setattr("sys.argv", ["dataset", "--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / out)])
        with pytest.raises(SystemExit) as ended:
            entry.run_stage(dataset.app)
        assert ended.value.code == 0
        return tmp_path / out

    first, again, other = run("first"), run("again"), run("other", "seed=1")
    files = sorted(path.name for path in first.iterdir())
    assert {f"{table}.parquet" for table in TABLES} < set(files)
    assert all((first / file).read_bytes() == (again / file).read_bytes() for file in files)
    cases, others = (read_table(out / "cases.parquet", CASES) for out in (first, other))
    assert cases != others
    assert read_table(first / "items.parquet", ITEMS) == read_table(other / "items.parquet", ITEMS)
    labels = set(read_table(first / "labels.parquet", LABELS)["item_id"].to_pylist())
    assert labels == set(read_table(first / "items.parquet", ITEMS)["item_id"].to_pylist())
    assert labels >= set(cases["truth_id"].to_pylist())
