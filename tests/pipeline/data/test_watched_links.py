"""What DVC sees behind links, on which the refusals rest. Run: python -m pytest tests/pipeline/data/test_watched_links.py"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_project import make_environment

pytestmark = pytest.mark.slow


def run_dvc(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, env=make_environment(), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("link", "is_seen"), [("raw", True), ("raw/images", False)])
def test_a_change_is_seen_behind_a_link_in_place_of_the_raw_folder_but_not_behind_one_in_it(tmp_path: Path, link: str, is_seen: bool) -> None:
    root, disk = tmp_path / "project", tmp_path / "disk"
    (disk / "images").mkdir(parents=True)
    (disk / "images" / "1.png").write_text("before")
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(disk / "images" if link.endswith("images") else disk)
    (root / "dvc.yaml").write_text("stages: {dataset: {cmd: touch made, deps: [raw], outs: [made]}}\n")
    run_dvc(root, "init", "--no-scm", "--quiet")
    run_dvc(root, "repro", "--quiet")
    (disk / "images" / "1.png").write_text("after")
    assert ("modified" in run_dvc(root, "status")) == is_seen
