"""The command: one line a check, silent before a run, hints after one. Run: python -m pytest tests/pipeline/doctor/test_command.py"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.doctor import __main__ as doctor
from pipeline.doctor import disk
from pipeline.doctor.findings import Finding
from tests.pipeline.doctor.faults import fill
from tests.toy_project import REPO


def test_every_check_is_one_line_and_the_exit_code_says_whether_a_run_is_possible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    def fail() -> Finding:
        raise OSError(errno.EIO, "Input/output error", "x")

    checks = [lambda: Finding("ok", "a: fine"), lambda: Finding("note", "b: so so")]
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert doctor.examine() == 0
    assert capsys.readouterr().out == "ok    a: fine\nnote  b: so so\n"
    checks.append(fail)
    assert doctor.examine() == 2
    assert capsys.readouterr().out.splitlines()[2].startswith("WRONG fail: x: Input/output error; the disk itself reports an error")


def test_after_a_failure_what_may_be_the_reason_is_said(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(disk, "measure_room", lambda folder: 2**40)  # whatever the machine of the test has
    doctor.main(["--after"])
    assert capsys.readouterr().err == ""
    (project / ".dvc" / "cache").mkdir()
    fill(project / ".dvc" / "cache", monkeypatch)
    doctor.main(["--after"])
    said = capsys.readouterr().err
    assert said == f"perhaps because of this: disk: {project}/.dvc/cache cannot be written to (No space left on device); free some space\n"


def test_it_runs_without_any_package_in_a_second(project: Path) -> None:
    started = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-S", "-m", "pipeline.doctor"]  # -S: nothing that is installed
    ended = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 10  # a busy machine
    assert (ended.returncode, ended.stderr) == (2, "")
    lines = ended.stdout.splitlines()
    assert len(lines) == len(doctor.CHECKS)
    assert all(line.startswith(tuple(doctor.SHOWN.values())) for line in lines)
    assert "WRONG packages: missing are torch, " in ended.stdout
