"""Folders of finished work, and which are collected. Run: python -m pytest tests/pipeline/test_work.py"""

import os
import shutil
from pathlib import Path

import pytest

from pipeline import work
from pipeline.work import KEPT_KEYS, collect_old, open_work


def make_keys(folder: Path, count: int) -> list[Path]:
    keys = [folder / f"key-{index:02}" for index in range(count)]
    for age, path in enumerate(keys):
        path.mkdir(parents=True)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return keys


def test_the_newest_keys_are_kept_and_so_is_an_old_one_in_use(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, KEPT_KEYS + 3)
    with work.lock_folder(keys[-1]):
        os.utime(keys[-1], (0, 0))
        collect_old(keys[0])
    assert {path for path in keys if path.exists()} == {*keys[:KEPT_KEYS], keys[-1]}


@pytest.mark.parametrize("when", ["before it is looked at", "before it is locked"])
def test_a_key_that_another_process_has_just_collected_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    keys = make_keys(tmp_path, KEPT_KEYS + 2)
    if when == "before it is looked at":
        is_dir = Path.is_dir
        monkeypatch.setattr(Path, "is_dir", lambda path: is_dir(path) and (path != keys[-1] or not shutil.rmtree(path)))
    else:
        read_time = work.read_time
        monkeypatch.setattr(work, "read_time", lambda path: (read_time(path), shutil.rmtree(path) if path == keys[-1] else None)[0])
    collect_old(keys[0])
    assert [path for path in keys if path.exists()] == keys[:KEPT_KEYS]


def test_the_same_code_and_inputs_open_the_same_folder_and_others_another() -> None:
    folders = []
    for inputs in ("a", "a", "b"):
        with open_work("toy", code=[make_keys], inputs=inputs) as folder:
            folders.append(folder)
    assert folders[0] == folders[1] != folders[2]
