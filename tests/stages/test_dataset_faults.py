"""Raw files that are malformed end in one sentence and exit code 2. Run: python -m pytest tests/stages/test_dataset_faults.py"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


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


def test_a_raw_folder_that_is_not_there_points_to_the_readme(make_project, capsys) -> None:
    project = make_project("folder")
    shutil.rmtree(project.raw)
    assert project.run() == 2
    assert "does not exist; the README's section on the data set says what belongs there" in capsys.readouterr().err
