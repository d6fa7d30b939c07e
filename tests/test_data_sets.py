"""Every data set in its official raw format through the whole embedded pipeline to a report. Run: python -m pytest tests/test_data_sets.py"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts import read_table
from pipeline.params import read_section
from pipeline.schemas import CASES, ITEMS
from tests import raw_sets
from tests.small_project import SMALL, SmallProject

pytestmark = pytest.mark.slow

FEWER_STEPS = ("mapper.attention_steps=10", "reflection.num_steps=3", "ranker.epochs=5", "generation.steps=2")  # the data are tested, not the drawing
SIZES = (*(text for text in SMALL if not text.startswith("dataset=")), *FEWER_STEPS, "dataset.image_size=64")
SPLITS = "dataset.splits=[0.5,0.25,0.25]"
MAKERS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "folder": (raw_sets.make_folder, ("dataset.history_length=6", SPLITS)),
    "ml_latest": (raw_sets.make_ml_latest, ("dataset.history_length=6", SPLITS)),
    "pog": (raw_sets.make_pog, ("dataset.history_length=6", "dataset.num_users=12", SPLITS)),
    "ser30k": (raw_sets.make_ser30k, ("dataset.history_length=7", "dataset.stickers_per_theme=4", "dataset.num_users=12", SPLITS)),
    "pigeon": (raw_sets.make_pigeon, ()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_whole_pipeline_ends_in_a_report(name: str, tmp_path: Path) -> None:
    make, overrides = MAKERS[name]
    project = SmallProject(tmp_path / "ragar", (f"dataset={name}", *SIZES, *overrides))
    make(project.root / read_section(project.root / "params.yaml", "dataset.raw"))
    assert "can be used" in project.run("python", "-m", "stages.dataset", "--check")
    output = project.repro()
    assert "Running stage 'report'" in output
    data = project.root / "data"
    drawn = json.loads((data / "evaluation" / "summary.json").read_text())["methods"]
    assert {"original", "sd", "keywords", "retrieved", "global", "ragar"} <= drawn.keys()
    page = (data / "report" / "index.html").read_text()
    counts = json.loads((data / "dataset" / "summary.json").read_text())
    assert counts["cases"]["test"] >= 3
    assert counts["missing_images"] >= 1
    assert "is missing: There is no such file." in page
    assert f"{counts['missing_images']:,} of {counts['items'] + counts['missing_images']:,} (" in page
    cases, items = read_table(data / "dataset" / "cases.parquet", CASES).to_pylist(), read_table(data / "dataset" / "items.parquet", ITEMS)
    known = set(items["item_id"].to_pylist())
    assert all({*case["history"], case["reference_id"]} <= known and case["reference_id"] not in case["history"] for case in cases)
    assert project.run("dvc", "repro").count("Running stage") == 0
