"""Experiments run in folders with any letters, on raw files that git ignores. Run: python -m pytest tests/experiments/test_launch.py"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.launch import complete, copy_linked
from experiments.plan import Plan
from experiments.runs import Run
from experiments.series import build_command, build_environment
from experiments.store import list_stored, open_experiment
from tests.toy_project import REPO, ToyProject

PIPELINE = """
stages:
  evaluation:
    cmd: python -c "import pathlib; pathlib.Path('out.txt').write_text(pathlib.Path('params.yaml').read_text() * 2)"
    params: [seed]
    outs: [out.txt]
"""


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_temporary_run_works_in_a_folder_with_other_letters_and_its_files_can_be_read(tmp_path: Path, locale: str) -> None:
    project = ToyProject(tmp_path / "räks-試し" / "project")
    (project.root / "dvc.yaml").write_text(PIPELINE)
    (project.root / "params.yaml").write_text("seed: 0\n")
    (project.root / "conf").mkdir()
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "one stage")
    plan = Plan(Run("seed-1", ("seed=1",)), "0123456789")
    command = build_command(plan)
    environment = {**build_environment({**os.environ, "LC_ALL": locale}), "PYTHONPATH": str(REPO)}
    ended = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    stored = list_stored(project.root)["0123456789"]
    with open_experiment(stored, root=project.root) as fetch:
        assert fetch("out.txt").read_text() == "seed: 1\n" * 2


RAW_PIPELINE = """
stages:
  evaluation:
    cmd: python -c "import pathlib; pathlib.Path('out.txt').write_text(pathlib.Path('params.yaml').read_text().split('raw=')[0])"
    deps: ["${dataset.raw}"]
    params: [dataset]
    outs: [out.txt]
"""


@pytest.fixture
def project(tmp_path: Path) -> ToyProject:
    """A project with a folder of raw files that git ignores."""
    project = ToyProject(tmp_path / "project")
    project.run("dvc", "config", "hydra.enabled", "true")
    (project.root / "dvc.yaml").write_text(RAW_PIPELINE)
    (project.root / "conf").mkdir()
    config = "dataset: {name: toy, raw: conf}\nretrieval: {k: 5}\n"
    (project.root / "conf" / "config.yaml").write_text(config)
    (project.root / "params.yaml").write_text(config)
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "raw")
    folder = project.root / "data" / "raw" / "é 新 (1)=a,{b}#&;"
    folder.mkdir(parents=True)
    (folder / "a.png").write_text("a")
    project.env |= {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    return project


def launch(project: ToyProject, *arguments: str, code: int = 0) -> str:
    return project.run(sys.executable, "-m", "experiments.launch", *arguments, code=code)


def test_a_temporary_run_has_the_ignored_raw_files_of_its_own_params_without_a_copy_of_their_bytes(project: ToyProject) -> None:
    launch(project, "exp", "run", "--args", """--temp -n mine -S 'dataset.raw=data/raw/é 新 (1)=a,{b}#&;'""")
    shown = project.run("git", "show", "refs/exps/" + next(iter(list_refs(project))) + ":params.yaml")
    assert "raw: data/raw/é 新 (1)=a,{b}#&;\n" in shown
    assert (project.root / "data" / "raw" / "é 新 (1)=a,{b}#&;" / "a.png").read_text() == "a"


@pytest.mark.slow
def test_a_queued_run_has_them_too(project: ToyProject) -> None:
    launch(project, "exp", "run", "--queue", "-n", "mine", "-S", "dataset.raw=data/raw/é 新 (1)=a,{b}#&;")
    launch(project, "exp", "run", "--run-all")
    assert len(list_refs(project)) == 1


def list_refs(project: ToyProject) -> list[str]:
    refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [ref.removeprefix("refs/exps/") for ref in refs if ref.endswith("/mine")]


def test_queued_runs_name_what_each_of_them_needs(project: ToyProject) -> None:
    (project.root / "data" / "raw" / "b").mkdir()
    (project.root / "data" / "raw" / "b" / "x.png").write_text("x")
    with contextlib.chdir(project.root):
        given = complete(["exp", "run", "--queue", "-S", "dataset.raw=data/raw/b,conf", "-Sretrieval.k=1,2"], project.root)
    assert given == [
        "exp",
        "run",
        "--copy-paths",
        "data/raw/b",
        "--queue",
        "--set-param",
        "dataset.raw=data/raw/b,conf",
        "--set-param",
        "retrieval.k=1,2",
    ]
    assert complete(["exp", "show"], project.root) == ["exp", "show"]
    assert complete(["exp", "run", "-S", "retrieval.k=7"], project.root) == ["exp", "run", "--set-param", "retrieval.k=7"]


def test_copies_are_links_where_the_disk_can_and_copies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw" / "images").mkdir(parents=True)
    (tmp_path / "raw" / "images" / "a.png").write_text("a")
    copy_linked(str(tmp_path / "raw"), str(tmp_path / "run" / "raw"))
    assert (tmp_path / "run" / "raw" / "images" / "a.png").samefile(tmp_path / "raw" / "images" / "a.png")

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    copy_linked(str(tmp_path / "raw"), str(tmp_path / "other" / "raw"))
    assert (tmp_path / "other" / "raw" / "images" / "a.png").read_text() == "a"
    assert not (tmp_path / "other" / "raw" / "images" / "a.png").samefile(tmp_path / "raw" / "images" / "a.png")


@pytest.mark.parametrize(
    ("text", "word"), [("-S dataset.raw=/x/my pics/a", "'pics/a' stands alone"), ("-S dataset.raw='/x", "a quote that is not closed")]
)
def test_what_needs_quotes_is_a_sentence_with_the_quotes(project: ToyProject, text: str, word: str) -> None:
    said = launch(project, "exp", "run", "--args", text, code=2)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert word in said
    assert """ARGS='dataset.raw="/data/my pics (1)"'""" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-S retrieval.K=7", "there is no param retrieval.K; did you mean retrieval.k?"),
        ("-S retrieval.k=seven", "params.yaml: retrieval.k is 'seven', but it must be a valid integer."),
        ("--queue -S retrieval.k=1,x", "params.yaml: retrieval.k is 'x', but it must be a valid integer."),
    ],
)
def test_params_that_a_stage_would_refuse_are_refused_before_dvc_starts(project: ToyProject, text: str, words: str) -> None:
    said = launch(project, "exp", "run", "--args", text, code=2)
    assert said == f"error: {words}\n"
