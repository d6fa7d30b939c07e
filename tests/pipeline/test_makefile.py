"""What make refuses before it runs anything. Run: python -m pytest tests/pipeline/test_makefile.py"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.toy_project import REPO

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def dry_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS")}
    return subprocess.run(["make", "-n", *arguments], cwd=REPO, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check-data", "dataset=folder"), "dataset=... is not read here; params stand in ARGS, as in make check-data ARGS='dataset=folder'"),
        (("exp", "retrieval.k=7"), "retrieval.k=... is not read here; params stand in ARGS"),
        (("params", "args=retrieval.k=7"), "args=... is not read here"),
        (("test", "ARGS=-k x"), "make test reads no ARGS; these do: repro params exp exps use "),
        (("experiments", "ARGS=--set dataset=pog"), "make experiments reads no ARGS; these do: "),
        (("exp", "doctor", "ARGS=-S seed=1"), "make doctor reads no ARGS"),
    ],
)
def test_what_would_be_ignored_in_silence_is_refused(arguments: tuple[str, ...], words: str) -> None:
    ended = dry_run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("target", ["table1", "fig2", "fig5", "table4", "ablation", "choices", "strength", "seeds", "reflection-effect"])
def test_every_experiment_is_run_with_the_settings_that_are_given(target: str) -> None:
    shown = dry_run(target, "ARGS=--set dataset=pog").stdout
    assert f"python -m experiments {target} --args '--set dataset=pog' " in shown


@pytest.mark.parametrize(
    ("target", "module"),
    [
        ("draw", "pipeline.draw"),
        ("demo", "pipeline.demo"),
        ("export", "pipeline.draw.export"),
        ("study", "pipeline.study"),
        ("study-results", "pipeline.study.results"),
    ],
)
def test_commands_about_a_finished_run_are_given_their_words_as_they_are(target: str, module: str) -> None:
    shown = dry_run(target, "ARGS=my requests (1).csv --out 'new folder'").stdout
    assert rf"-m {module} --args 'my requests (1).csv --out '\''new folder'\'''" in shown


def test_an_extra_is_installed_from_its_own_lock_and_an_unknown_one_is_a_sentence() -> None:
    for extra in ("benchmark", "cluster", "demo"):
        lock = f"-r requirements-{extra}.lock"
        assert lock in dry_run("setup", f"EXTRAS={extra}").stdout
        assert lock in dry_run("setup", "EXTRAS=demo cluster benchmark").stdout
        assert lock not in dry_run("setup").stdout
    ended = dry_run("setup", "EXTRAS=gradio")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "EXTRAS is gradio, but it must be one or more of: benchmark cluster demo." in ended.stderr


def test_targets_without_arguments_and_an_empty_one_are_read() -> None:
    assert dry_run("test", "ARGS=").returncode == 0
    assert dry_run("repro", "ARGS=dataset=folder", "PYTHON=python3").returncode == 0


@pytest.mark.parametrize("python", ["", "/nowhere/python3", "/etc/passwd", "/tmp", "/my py/python3"])
@pytest.mark.parametrize("target", ["setup", "doctor"])
def test_a_python_that_does_not_run_is_a_sentence(tmp_path: Path, python: str, target: str) -> None:
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock"):
        (tmp_path / name).touch()
    command = ["make", "--file", str(REPO / "Makefile"), target, f"PYTHON={python}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[0].startswith(
        f"error: there is no {python} here; install Python 3.11 or newer, or say where it is: make PYTHON="
    )


def test_a_file_in_the_environments_place_is_a_sentence(tmp_path: Path) -> None:
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock", ".venv"):
        (tmp_path / name).touch()
    command = ["make", "--file", str(REPO / "Makefile"), "setup"]
    ended = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "error: the virtual environment cannot be made; a file, a link or half an environment may be in its place: rm -rf .venv" in ended.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("PYTHONHOME", "/usr"), ("PYTHONSAFEPATH", "1"), ("PYTHONWARNINGS", "error"), ("PYTHONDONTWRITEBYTECODE", "1")]
)
def test_variables_of_another_python_do_not_reach_ours(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "Makefile").write_text(f"include {REPO}/Makefile\nshow:\n\t@echo [$${name}]\n")
    ended = subprocess.run(["make", "show"], cwd=tmp_path, env={**os.environ, name: value}, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
