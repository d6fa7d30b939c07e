"""Finished experiments are found and read without the workspace. Run: python -m pytest tests/experiments/test_store.py -q"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.store import Stored, list_stored, open_experiment
from pipeline.integrity.cache import locate_object
from pipeline.integrity.hashes import hash_file
from tests.toy_project import flip_byte

NAME = "ragar-k-7-0123456789"


DVC_YAML = """
stages:
  evaluation:
    foreach: [data]
    do:
      cmd: this command is never run
      params: [seed]
      outs:
        - ${item}/scores.txt
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository whose last commit looks like an experiment's: outputs in dvc.lock and DVC's cache, parameters in git."""
    root = tmp_path_factory.mktemp("template") / "repository"
    (root / "data").mkdir(parents=True)
    run(root, "git", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "config", "cache.type", "copy")  # as the project has it
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text("seed: 0\n")
    (root / ".gitignore").write_text("/data/*\n")
    (root / "data" / "scores.txt").write_text("in the experiment")
    run(root, sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "experiment")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "repository", symlinks=True)


def run(root: Path, *command: str) -> str:
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def add_ref(root: Path, name: str, *, below: str = "ab" + "c" * 38) -> str:
    revision = run(root, "git", "rev-parse", "HEAD")
    run(root, "git", "update-ref", f"refs/exps/{below[:2]}/{below[2:]}/{name}", revision)
    return revision


def test_an_experiment_is_found_by_its_fingerprint_whatever_commit_it_was_made_on(root: Path) -> None:
    revision = add_ref(root, NAME)
    assert list_stored(root) == {"0123456789": Stored(NAME, revision)}
    add_ref(root, NAME, below="ff" + "0" * 38)
    assert list_stored(root) == {"0123456789": Stored(NAME, revision)}


def test_other_experiments_and_dvcs_own_refs_are_left_alone(root: Path) -> None:
    revision = add_ref(root, "funny-puma")
    add_ref(root, "ragar-k-7-short")
    for ref in ("refs/exps/stash", "refs/exps/exec/EXEC_HEAD", "refs/exps/celery/stash"):
        run(root, "git", "update-ref", ref, revision)
    assert list_stored(root) == {}


def test_files_come_from_the_experiment_and_not_from_the_workspace(root: Path) -> None:
    stored = Stored(NAME, add_ref(root, NAME))
    (root / "data" / "scores.txt").unlink()
    (root / "data" / "scores.txt").write_text("in the workspace")
    (root / "dvc.yaml").write_text("stages: {}")
    with open_experiment(stored, root=root) as fetch:
        assert fetch("data/scores.txt").read_text() == "in the experiment"
        assert fetch("params.yaml").read_text() == "seed: 0\n"
    assert (root / "data" / "scores.txt").read_text() == "in the workspace"


def test_a_file_that_is_read_twice_stays_in_the_cache(root: Path) -> None:
    with open_experiment(Stored(NAME, add_ref(root, NAME)), root=root) as fetch:
        assert [fetch("data/scores.txt").read_text() for _ in range(3)] == ["in the experiment"] * 3
    cached = [path for path in (root / ".dvc" / "cache" / "files").rglob("*") if path.is_file()]
    assert [path.read_text() for path in cached] == ["in the experiment"]


def test_a_file_that_is_gone_names_the_experiment_and_the_way_out(root: Path) -> None:
    stored = Stored(NAME, add_ref(root, NAME))
    with open_experiment(stored, root=root) as fetch, pytest.raises(ValueError, match=rf"{NAME}.*data/summary\.json.*dvc exp remove {NAME}"):
        fetch("data/summary.json")


def test_data_that_left_the_cache_is_the_same_clear_error(root: Path) -> None:
    stored = Stored(NAME, add_ref(root, NAME))
    for path in (root / ".dvc" / "cache").rglob("*"):
        if path.is_file():
            path.unlink()
    with open_experiment(stored, root=root) as fetch, pytest.raises(ValueError, match=r"no readable data/scores\.txt"):
        fetch("data/scores.txt")


def test_a_file_that_is_damaged_in_the_cache_is_not_read(root: Path) -> None:
    stored = Stored(NAME, add_ref(root, NAME))
    flip_byte(find_object(root, root / "data" / "scores.txt"))
    with open_experiment(stored, root=root) as fetch, pytest.raises(ValueError, match=r"scores.txt of the experiment .* is damaged .*`make verify`"):
        fetch("data/scores.txt")


def find_object(root: Path, path: Path) -> Path:
    return locate_object(root / ".dvc" / "cache", hash_file(path))
