"""Wiring of the stage `ranker`, and a real kill in it. Run: python -m pytest tests/stages/test_ranker.py"""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.artifacts import write_table
from pipeline.json_files import read_json
from pipeline.ranker.scoring import load_ranker
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS
from stages.ranker import app
from tests.configs import RANKER, RUNTIME
from tests.pipeline.ranker.conftest import build_world

REPO = Path(__file__).resolve().parents[2]
FILES = ("ranker.safetensors", "metrics.json", "curves.csv")


def write_inputs(folder: Path, **changes: object) -> list[str]:
    """Write the three tables and params.yaml, and return the stage's arguments without `--out`."""
    config = replace(RANKER, epochs=4)
    runtime = dataclasses.asdict(replace(RUNTIME, checkpoint_every=1))
    params = {"seed": 0, "runtime": runtime, "ranker": {**dataclasses.asdict(config), **changes}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    arguments = ["--params", str(folder / "params.yaml")]
    for table, schema in zip(build_world(30, 120), (INTERACTIONS, CASES, EMBEDDINGS), strict=True):
        path = folder / f"{schema.name}.parquet"
        write_table(path, table, schema, provenance={})
        arguments += [f"--{schema.name}", str(path)]
    return arguments


def test_the_stage_writes_a_ranker_its_metrics_and_its_curves(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*write_inputs(tmp_path), "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert len(load_ranker(tmp_path / "out/ranker.safetensors").item_ids) == 120
    metrics = read_json(tmp_path / "out/metrics.json")
    assert (metrics["epochs"], metrics["reference"]["n"]) == (4, 30)
    rows = list(csv.DictReader((tmp_path / "out/curves.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["recall_at_10"] == ""
    assert float(rows[1]["recall_at_10"]) >= 0
    assert "ranker: 240 rows in, 240 computed, 0 reused, 0 rejected" in result.stdout


def test_micros_own_ndcg_is_a_setting(tmp_path: Path) -> None:
    for name in ("standard", "retrieved"):
        arguments = write_inputs(tmp_path, ndcg=name, validation_items=3)
        CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / name)], catch_exceptions=False)
    standard, retrieved = (read_json(tmp_path / name / "metrics.json") for name in ("standard", "retrieved"))
    assert retrieved["validation"]["ndcg_at_10"] > standard["validation"]["ndcg_at_10"]  # three positives per user
    assert retrieved["validation"]["recall_at_10"] == standard["validation"]["recall_at_10"]
    assert retrieved["reference"] == standard["reference"]  # one positive: both ideals are 1


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    arguments = write_inputs(tmp_path, num_layers=3)
    with pytest.raises(ValueError, match="unknown key `num_layers`"):
        CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)


def start_stage(arguments: list[str], root: Path) -> subprocess.Popen:
    environment = {**os.environ, "DVC_ROOT": str(root)}
    command = [sys.executable, "-m", "stages.ranker", *arguments, "--out", str(root / "out")]
    return subprocess.Popen(command, cwd=REPO, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_stage_killed_in_training_and_started_again_writes_the_same_bytes(tmp_path: Path) -> None:
    arguments = write_inputs(tmp_path, epochs=60, validate_every=5, patience=1000)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start_stage(arguments, whole).wait(timeout=300) == 0
    process = start_stage(arguments, killed)
    deadline = time.monotonic() + 120
    while not list(killed.glob(".work/ranker/*/checkpoint-*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "out/ranker.safetensors").exists()
    assert start_stage(arguments, killed).wait(timeout=300) == 0
    for name in FILES:
        assert (whole / "out" / name).read_bytes() == (killed / "out" / name).read_bytes(), name
