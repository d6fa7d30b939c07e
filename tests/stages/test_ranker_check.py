"""The stage `ranker_check` on a tiny encoder. Run: python -m pytest tests/stages/test_ranker_check.py"""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.artifacts import read_table, write_table
from pipeline.json_files import read_json
from pipeline.ranker_check.scoring import load_check
from pipeline.schemas import INTERACTIONS, ITEMS, REJECTED
from stages import ranker_check
from tests.broken_items import REJECTED as BROKEN
from tests.broken_items import build_items
from tests.configs import RANKER_CHECK, RUNTIME
from tests.pipeline.ranker_check.conftest import make_interactions
from tests.tiny_encoders import save_tiny_vit

FILES = ("ranker.safetensors", "metrics.json", "curves.csv", "rejected.parquet")


def run_stage(folder: Path, out: str, **changes: object) -> str:
    """Write params and tables (six good items, broken ones), run the stage, and return what it prints."""
    models = {"check_visual": str(folder / "vit")}
    if not (folder / "vit").exists():
        save_tiny_vit(folder / "vit")
    block = asdict(replace(RANKER_CHECK, epochs=3, max_rejected_fraction=0.9, **changes))
    (folder / "params.yaml").write_text(yaml.safe_dump({"seed": 0, "runtime": asdict(RUNTIME), "models": models, "ranker_check": block}))
    write_table(folder / "items.parquet", build_items(6), ITEMS, provenance={})
    good = [f"good-{n:04d}" for n in range(6)]
    histories = {"u0": good[:4], "u1": good[2:], "u2": ["bomb", *good[1:4]]}
    write_table(folder / "interactions.parquet", make_interactions(histories), INTERACTIONS, provenance={})
    options = [f"--{name}={folder / name}.parquet" for name in ("items", "interactions")]
    result = CliRunner().invoke(ranker_check.app, [*options, f"--params={folder / 'params.yaml'}", f"--out={folder / out}"], catch_exceptions=False)
    return result.stdout


def test_the_stage_needs_items_and_interactions_alone_and_every_item_has_one_outcome(tmp_path: Path) -> None:
    printed = run_stage(tmp_path, "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    ids = set(read_table(tmp_path / "items.parquet", ITEMS, columns=[])["item_id"].to_pylist())
    refused = set(read_table(tmp_path / "out/rejected.parquet", REJECTED)["row_key"].to_pylist())
    known = set(load_check(tmp_path / "out/ranker.safetensors").item_index)
    assert refused == BROKEN
    assert known == ids - BROKEN
    assert f"ranker_check: {len(ids)} rows in, {len(ids)} computed, 0 reused, {len(BROKEN)} rejected" in printed
    metrics = read_json(tmp_path / "out/metrics.json")
    assert (metrics["users"], metrics["left_out"], metrics["held_out"]["n"]) == (3, 1, 3)
    rows = list(csv.DictReader((tmp_path / "out/curves.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert all(float(row["held_out_log_probability"]) < 0 for row in rows)


def test_another_run_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / f"work-{name}"))
        run_stage(tmp_path, name)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in FILES)
    run_stage(tmp_path, "c", seed=1)
    assert (tmp_path / "a/ranker.safetensors").read_bytes() != (tmp_path / "c/ranker.safetensors").read_bytes()
