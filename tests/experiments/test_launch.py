"""Experiments run in a folder whose name is not ASCII. Run: python -m pytest tests/experiments/test_launch.py"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from experiments.catalogue import Run
from experiments.plan import Plan
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
    command = build_command(plan, [])
    environment = {**build_environment({**os.environ, "LC_ALL": locale}), "PYTHONPATH": str(REPO)}
    ended = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    stored = list_stored(project.root)["0123456789"]
    with open_experiment(stored, root=project.root) as fetch:
        assert fetch("out.txt").read_text() == "seed: 1\n" * 2
