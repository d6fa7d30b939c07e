"""The dataset stage from the command line: whole tables, or one sentence and exit code 2. Run: python -m pytest tests/stages/test_dataset.py"""

from __future__ import annotations

import copy
import csv
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.artifacts import read_table
from pipeline.compose import compose_params
from pipeline.json_files import read_json
from pipeline.schemas import CASES, INTERACTIONS, ITEMS, LABELS, REJECTED
from stages import dataset, entry
from tests import raw_sets
from tests.configs import PARAMS, read_block
from tests.raw_sets import write_csv_rows
from tests.test_repo_rules import REPO

MAKERS: dict[str, Callable[[Path], Path]] = {
    "folder": raw_sets.make_folder,
    "ml_latest": raw_sets.make_ml_latest,
    "pog": raw_sets.make_pog,
    "ser30k": raw_sets.make_ser30k,
    "pigeon": raw_sets.make_pigeon,
}
SIZES = {"image_size": 32, "max_rejected_fraction": 0.2}
OWN: dict[str, dict[str, Any]] = {
    "folder": {"history_length": 6},
    "ml_latest": {"history_length": 6},
    "pog": {"history_length": 6, "num_users": 10, "spare_users": 3, "spare_items": 2},
    "ser30k": {"history_length": 7, "stickers_per_theme": 4, "num_users": 12},
    "pigeon": {},
}
TABLES = ("items", "interactions", "cases", "labels", "rejected")


class Project:
    """A folder with params and one raw data set, in which the stage is run as from a shell."""

    def __init__(self, root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.raw, self.out, self._monkeypatch = root, MAKERS[name](root / "raw"), root / "out", monkeypatch
        self.params = copy.deepcopy(PARAMS) | {"dataset": read_block(name) | SIZES | OWN[name] | {"raw": str(self.raw)}}
        monkeypatch.setattr(entry, "setup_logging", lambda: None)  # it quietens the whole process

    def run(self, *arguments: str) -> int:
        """Run the stage and return its exit code."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        paths = ["--params", str(self.root / "params.yaml"), "--extra", str(self.root / "extra"), "--out", str(self.out)]
        self._monkeypatch.setattr("sys.argv", ["dataset", *paths, *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.run_stage(dataset.app)
        return ended.value.code


@pytest.fixture
def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Project]:
    return lambda name: Project(tmp_path, name, monkeypatch)


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


def change_delimiter(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b",", b"\t"))


def cut_off(path: Path) -> None:
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:4] if len(lines) > 1 else data[: len(data) // 2])


def add_bom(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def mix_encodings(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    middle = len(lines) // 2
    lines[middle] = lines[middle][:-3] + "é".encode("latin-1") + lines[middle][-3:]
    path.write_bytes(b"\n".join(lines))


def add_nul(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\0" + data[len(data) // 2 :])


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lengthen(path: Path) -> None:
    data = path.read_bytes()
    end = data.rfind(b'"') if path.suffix == ".json" else len(data.rstrip(b'"\n'))
    text = b"9" * 100_000 if path.name in ("ratings.csv", "interactions.csv") else b"x" * 100_000
    path.write_bytes(data[:end] + text + data[end:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


FAULTS = (change_delimiter, cut_off, add_bom, mix_encodings, add_nul, put_folder, lengthen, empty, Path.unlink)
TEXT_FILES = {
    "folder": ("items.csv", "interactions.csv"),
    "ml_latest": ("movies.csv", "ratings.csv", "links.csv"),
    "pog": ("user_data.txt", "item_data.txt"),
    "ser30k": ("Annotations/val.json",),
}
HARMLESS = {
    *((f"{table}.csv", fault) for table in ("items", "interactions") for fault in ("change_delimiter", "add_bom")),  # as spreadsheets save them
    ("items.csv", "mix_encodings"),  # then it is cp1252, which is noted
    ("links.csv", "unlink"),  # optional
    ("links.csv", "lengthen"),  # a long number, which is only shown
    ("user_data.txt", "lengthen"),  # a long outfit id, which nobody reads
    ("Annotations/val.json", "change_delimiter"),  # no delimited file
}
MALFORMED = [(n, file, fault) for n, files in TEXT_FILES.items() for file in files for fault in FAULTS if (file, fault.__name__) not in HARMLESS]


@pytest.mark.parametrize(("name", "file", "fault"), MALFORMED, ids=lambda value: getattr(value, "__name__", value))
def test_a_malformed_file_gives_one_sentence_with_its_name_exit_code_2_and_no_table(
    name: str, file: str, fault: Callable[[Path], None], make_project, capsys
) -> None:
    project = make_project(name)
    path = project.raw / file
    fault(path)
    assert project.run() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert len(error) < 600
    assert path.name in error or (fault is Path.unlink and path.stem in error)
    assert not list(project.out.glob("*"))
    assert project.run("--check") == 2
    assert path.stem in capsys.readouterr().err


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


def test_control_characters_of_raw_files_never_reach_the_terminal(make_project, capsys) -> None:
    project = make_project("folder")
    with (project.raw / "items.csv").open("a", encoding="utf-8") as file:
        file.write("odd,\x1b[31m\u202egnp.jpg,t,c\n")
    assert project.run("--check") == 0
    project.params["dataset"]["max_rejected_fraction"] = 0.0
    assert project.run("--check") == 2
    with (project.raw / "interactions.csv").open("a", encoding="utf-8") as file:
        file.write("u,\x1b]0;x\x07\u200b\x9b,1\n")
    assert project.run("--check") == 2
    printed = "".join(capsys.readouterr())
    assert not {char for char in printed if not char.isprintable()} - {"\n"}
    assert r"'\x1b]0;x\x07\u200b\x9b' is not in the table of items" in printed


def test_a_missing_image_with_control_characters_in_its_name_is_shown_with_escapes(make_project, capsys) -> None:
    project = make_project("folder")
    rows = (project.raw / "items.csv").read_text().replace("gone.jpg", "\x1b[31m\u202egnp.jpg")
    (project.raw / "items.csv").write_text(rows, encoding="utf-8")
    assert project.run("--check") == 0
    assert r"images/\x1b[31m\u202egnp.jpg: There is no such file." in capsys.readouterr().out


class RunsCode:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", ["train.npy", "all_image_paths.npy", "mapped_movies.npy"])
def test_a_pickle_that_tries_to_run_code_is_refused_and_nothing_runs(file: str, make_project, capsys, tmp_path: Path) -> None:
    project = make_project("pigeon")
    np.save(project.raw / "processed_seq" / file, np.array({"a": RunsCode(tmp_path / "made")}, dtype=object), allow_pickle=True)
    assert project.run() == 2
    assert "which is no plain data, so it was not loaded" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
    assert not list(project.out.glob("*"))
    pickle.loads(pickle.dumps(RunsCode(tmp_path / "made")))  # it would have run
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("value", [[1, 2], {"u": 3}, {"u": {"g": [[1, 2, 3]]}}, {"u": {"g": [[1, 2, 3, 4, 5, 999]]}}])
def test_a_table_of_windows_of_another_shape_is_named(value: object, make_project, capsys) -> None:
    project = make_project("pigeon")
    np.save(project.raw / "processed_seq" / "valid.npy", np.array(value, dtype=object), allow_pickle=True)
    assert project.run() == 2
    assert "valid.npy" in capsys.readouterr().err


@pytest.mark.parametrize("name", MAKERS)
def test_without_images_it_says_so_and_lists_what_is_missing(name: str, make_project, capsys) -> None:
    project = make_project(name)
    for folder in ("images", "posters", "poster", "Images"):
        if (project.raw / folder).is_dir():
            shutil.rmtree(project.raw / folder)
            (project.raw / folder).mkdir()
    assert project.run() == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "missing.csv" in error
    with (project.out / "missing.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) > 30
    assert not list(project.out.glob("*.parquet"))


def test_a_raw_folder_that_is_not_there_points_to_the_readme(make_project, capsys) -> None:
    project = make_project("folder")
    shutil.rmtree(project.raw)
    assert project.run() == 2
    assert "does not exist; the README's section on the data set says what belongs there" in capsys.readouterr().err


def test_too_many_missing_images_are_an_error_before_any_table(make_project, capsys) -> None:
    project = make_project("folder")
    project.params["dataset"]["max_rejected_fraction"] = 0.01
    assert project.run() == 2
    assert "1 of 41 images are missing, more than dataset.max_rejected_fraction, 0.01" in capsys.readouterr().err
    assert [path.name for path in project.out.iterdir()] == ["missing.csv"]


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


def test_pictures_behind_a_link_are_refused_unless_the_raw_folder_is_the_link(make_project, capsys, tmp_path: Path) -> None:
    project = make_project("folder")
    (project.raw / "images").rename(tmp_path / "disk")
    (project.raw / "images").symlink_to(tmp_path / "disk")
    for arguments in ((), ("--check",)):
        assert project.run(*arguments) == 2
        assert (
            f"{project.raw / 'images'} is a link to a folder outside of {project.raw}, and a change behind such a link goes unnoticed; "
            f"make {project.raw} itself the link"
        ) in capsys.readouterr().err
    (project.raw / "images").unlink()
    (tmp_path / "disk").rename(project.raw / "images")
    project.raw.rename(tmp_path / "elsewhere")
    project.raw.symlink_to(tmp_path / "elsewhere")
    assert project.run() == 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_picture_that_is_a_link_to_a_file_elsewhere_is_not_read_in_any_data_set(name: str, make_project, capsys, tmp_path: Path) -> None:
    project = make_project(name)
    picture = next(path for path in sorted(project.raw.rglob("*.*")) if path.suffix in (".png", ".jpg") and path.stem not in ("gone",))
    for path in [path for path in project.raw.rglob("*.*") if path.suffix in (".png", ".jpg")]:
        shutil.copy(path, tmp_path / "secret.png")
        path.unlink()
        path.symlink_to(tmp_path / "secret.png")
    assert project.run() == 2
    error = capsys.readouterr().err
    assert f"pictures are links to files outside of {project.raw}, which are not read; put the files themselves there." in error
    assert str(picture.parent) in error
    assert not list(project.out.glob("*"))


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
