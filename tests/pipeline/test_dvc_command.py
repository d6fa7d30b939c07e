"""Ctrl-C on a run of DVC: soon, one last line, exit code 130. Run: python -m pytest tests/pipeline/test_dvc_command.py"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from dvc.utils.serialize import modify_yaml

from pipeline.dvc_command import modify_lock
from tests.toy_project import REPO, ToyProject

LAST = "interrupted: finished rows and checkpoints are kept, run the same command again and it goes on from there"
IN_TIME = 10  # seconds: 0.4 and 1.5 on an idle machine; the stage alone takes 30
STAGE = """
import pathlib, sys, time
KIND = sys.argv[1]
if KIND == "importing":
    pathlib.Path("ready").touch()
    time.sleep(30)
from stages.entry import run_stage
import typer
app = typer.Typer(add_completion=False)
@app.command()
def main(kind: str) -> None:
    try:
        pathlib.Path("ready").touch()  # in here: the signal may come right after it
        if kind == "ending":
            return
        time.sleep(30)
    finally:
        pathlib.Path("cleaned").touch()
        time.sleep(30 if kind == "stubborn" else 0)
        pathlib.Path("out.txt").write_text("out")
run_stage(app)
"""


FILES = {"python wait.py": "wait.py", "python -m stages.wait": "stages/wait.py"}  # by command: a process of its own, and a forked one


def make_project(tmp_path: Path, kind: str, command: str = "python wait.py") -> ToyProject:
    project = ToyProject(tmp_path / "project")
    root = project.root
    shutil.copytree(REPO / "stages", root / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (root / FILES[command]).write_text(STAGE)
    (root / "dvc.yaml").write_text(json.dumps({"stages": {"wait": {"cmd": f"{command} {kind}", "deps": [FILES[command]], "outs": ["out.txt"]}}}))
    (root / "params.yaml").write_text("")
    (root / ".gitignore").write_text("/.venv\n/ready\n/cleaned\n/.work\n/out.txt\n/requirements*.lock\n")
    (root / ".venv").mkdir()
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock", ".venv/.installed"):
        (root / name).touch()
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "one stage")
    return project


def use_shell(project: ToyProject, shell: str) -> None:
    """Let DVC run the stage in a shell: one may wait for its command (dash), another become it (bash)."""
    if not Path(shell).exists():
        pytest.skip(f"{shell} is not installed")
    project.env["SHELL"] = shell


def interrupt(project: ToyProject, *command: str, number: int = signal.SIGINT) -> tuple[int, str, float]:
    """Run a command until its stage is ready, press Ctrl-C, and return its exit code, what it printed, and the seconds that it still took."""
    with subprocess.Popen(
        command,
        cwd=project.root,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a test in the background would ignore it
    ) as process:
        deadline = time.monotonic() + 60
        while not (project.root / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        started = time.monotonic()
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said, time.monotonic() - started


@pytest.mark.parametrize(("shell", "command"), [("/bin/sh", "python wait.py"), ("/bin/bash", "python wait.py"), ("/bin/sh", "python -m stages.wait")])
@pytest.mark.parametrize("kind", ["waiting", "stubborn", "importing"])
def test_ctrl_c_ends_a_run_within_two_seconds_in_one_line(tmp_path: Path, kind: str, shell: str, command: str) -> None:
    project = make_project(tmp_path, kind, command)
    use_shell(project, shell)
    code, said, seconds = interrupt(project, sys.executable, "-m", "pipeline.dvc_command", "repro")
    assert (code, said.splitlines()[-1]) == (130, LAST)
    assert said.count("interrupted") == 1
    assert "Traceback" not in said
    assert "ERROR" not in said
    assert seconds < IN_TIME
    assert (project.root / "cleaned").exists() == (kind != "importing")
    assert not list((project.root / ".work" / "running").glob("*"))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_does_not_have_the_last_word(tmp_path: Path) -> None:
    project = make_project(tmp_path, "waiting")
    (project.root / "Makefile").write_text(
        f"include {REPO}/Makefile\n"
        "run:\n\t@$(STOPPABLE) $(PY) -m pipeline.dvc_command repro $(OR) $(WHY) $(END)\n\t@echo never\n"
        "fail:\n\t@$(STOPPABLE) exit 3 $(OR) $(END)\n"
        "try:\n\t@$(STOPPABLE) exit 0 $(OR) $(END)\n\t@echo after\n"
    )
    code, said, _ = interrupt(project, "make", f"PY={sys.executable}", "run")
    assert (code, said.splitlines()[-1]) == (-signal.SIGINT, LAST)  # which a shell calls 130
    assert "make: ***" not in said
    assert "never" not in said
    assert "Error 3" in project.run("make", "fail", code=2)
    assert project.run("make", "try") == "after\n"


@pytest.mark.parametrize(("shell", "command"), [("/bin/sh", "python wait.py"), ("/bin/bash", "python wait.py"), ("/bin/sh", "python -m stages.wait")])
def test_sigterm_ends_the_stage_too(tmp_path: Path, shell: str, command: str) -> None:
    project = make_project(tmp_path, "waiting", command)
    use_shell(project, shell)
    code, said, seconds = interrupt(project, sys.executable, "-m", "pipeline.dvc_command", "repro", number=signal.SIGTERM)
    assert (code, said.splitlines()[-1]) == (143, LAST.replace("interrupted", "terminated"))
    assert (project.root / "cleaned").exists()
    assert seconds < IN_TIME


def test_an_interrupted_experiment_ends_in_the_line_too_and_the_next_run_is_not_hindered(tmp_path: Path) -> None:
    project = make_project(tmp_path, "waiting")
    project.env |= {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
    code, said, _ = interrupt(project, sys.executable, "-m", "experiments.launch", "--planned", "exp", "run")
    assert (code, said.splitlines()[-1]) == (130, LAST)
    assert "Traceback" not in said
    (project.root / "dvc.yaml").write_text((project.root / "dvc.yaml").read_text().replace("waiting", "ending"))
    project.run(sys.executable, "-m", "pipeline.dvc_command", "repro")
    assert (project.root / "out.txt").read_text() == "out"


def test_a_stage_that_fails_fails_as_it_does_with_dvc(tmp_path: Path) -> None:
    project = make_project(tmp_path, "waiting")
    (project.root / "dvc.yaml").write_text(json.dumps({"stages": {"wait": {"cmd": "exit 3", "outs": ["out.txt"]}}}))
    assert "ERROR: failed to reproduce 'wait': failed to run: exit 3, exited with 3" in project.run(
        sys.executable, "-m", "pipeline.dvc_command", "repro", code=255
    )


def test_a_bare_dvc_repro_says_the_line_of_the_stage(tmp_path: Path) -> None:
    code, said, _ = interrupt(make_project(tmp_path, "waiting"), "dvc", "repro")
    assert code == 255  # DVC's own
    assert "interrupted: finished rows and checkpoints are kept, the same command goes on from there\n" in said
    assert "Traceback" not in said


def test_a_lock_file_is_modified_to_the_same_bytes_as_by_dvc_itself(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours" / "dvc.lock", tmp_path / "theirs" / "dvc.lock"
    for path, modify in ((ours, modify_lock), (theirs, modify_yaml)):
        path.parent.mkdir()
        shutil.copy(REPO / "dvc.lock", path)
        with modify(str(path)) as data:
            data["stages"]["raw"] = {"cmd": "python -m stages.raw", "outs": [{"path": "data/raw", "md5": "0" * 32 + ".dir", "size": 7}]}
            data["stages"]["new"] = {"cmd": "true: '#'", "params": {"params.yaml": {"a.b": [1, 2.5e-05, None, True, "on", "a: b"]}}}
        with modify(str(path)) as data:  # the same process goes on to the next stage
            data["stages"]["new"]["params"]["params.yaml"]["a.b"] = [True, date(2026, 1, 2), {"c": []}]
            del data["stages"]["raw"]
    assert ours.read_bytes() == theirs.read_bytes() != (REPO / "dvc.lock").read_bytes()


def test_comments_of_another_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "dvc.yaml"
    path.write_text("stages:  # all of them\n  a: {cmd: 'true'}\n", encoding="utf-8")
    with modify_lock(str(path)) as data:
        data["stages"]["b"] = {"cmd": "false"}
    assert path.read_text(encoding="utf-8").startswith("stages:  # all of them\n")
    assert "cmd: 'false'" in path.read_text(encoding="utf-8")
