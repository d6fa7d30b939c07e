"""Real models on a cluster: the small run's tables, byte by byte. Run: python -m pytest tests/pipeline/cluster/test_small_run.py -m slow"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.small_project import SmallProject

pytestmark = pytest.mark.slow
STAGES = ("captioning", "embedding", "keywords", "ti@ti", "pmg@pmg", "generation@truth", "generation@sd", "generation@ragar", "evaluation")


def read_tables(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_map_of_the_small_run_comes_out_the_same_on_a_cluster(small_run: SmallProject, head: str, tmp_path: Path) -> None:
    stages = yaml.safe_load((small_run.root / "dvc.lock").read_text())["stages"]
    text = (small_run.root / "params.yaml").read_text()
    assert "engine: local" in text
    (tmp_path / "params.yaml").write_text(text.replace("engine: local", "engine: ray"))
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "models").symlink_to((small_run.root / ".work" / "models").resolve())
    environment = {name: value for name, value in {**small_run.env, "DVC_ROOT": str(tmp_path), "RAY_ADDRESS": head}.items() if name != "PYTHONPATH"}
    for stage in STAGES:
        words = shlex.split(stages[stage]["cmd"])
        place = words.index("--out") + 1
        made, out = small_run.root / words[place], tmp_path / words[place]
        out.mkdir(parents=True)
        words[place] = str(out)
        ended = subprocess.run(
            [*words, "--params", str(tmp_path / "params.yaml")], cwd=small_run.root, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, (stage, ended.stdout, ended.stderr)
        assert " 0 computed" not in ended.stdout or stage.startswith("pmg"), ended.stdout
        assert read_tables(out) == read_tables(made), stage
        assert os.listdir(out)
