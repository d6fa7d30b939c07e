"""The method `lavit` from the command line. Run: `python -m pytest tests/stages/test_lavit.py`."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from pipeline.artifacts import read_provenance, read_table
from pipeline.cost import find_cost
from pipeline.schemas import GENERATED
from tests.stages.drawing_project import CASE_IDS, Project
from tests.tiny_lavit import SAMPLING, SIZE, save_tiny_lavit


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    project = Project(tmp_path, models)
    project.params["models"]["lavit"] = str(save_tiny_lavit(tmp_path / "lavit_model"))
    project.params["lavit"] = {"prompt_mode": "history+ref", "history_items": 2, "sampling": asdict(SAMPLING)}
    return project


def test_it_is_drawn_like_any_method_with_costs_and_once(project: Project) -> None:
    project.generate("lavit")
    table = read_table(project.root / "lavit" / "generated.parquet", GENERATED)
    assert table["case_id"].to_pylist() == CASE_IDS[6:]
    assert {Image.open(io.BytesIO(image["bytes"])).size for image in table["image"].to_pylist()} == {(SIZE, SIZE)}
    assert find_cost(project.root / "lavit" / "generated.parquet")["seconds_per_row"] > 0
    assert read_provenance(project.root / "lavit" / "generated.parquet")["identity"]["lavit"].startswith("lavit_model-")
    outs = project.hash_outs("lavit")
    assert "0 computed" in project.generate("lavit")
    assert project.hash_outs("lavit") == outs


def test_without_weights_nothing_is_drawn_and_the_run_goes_on(project: Project) -> None:
    project.params["models"]["lavit"] = None
    project.generate("lavit")
    assert len(read_table(project.root / "lavit" / "generated.parquet", GENERATED)) == 0


def test_it_is_drawn_only_when_asked_for(project: Project) -> None:
    project.params["comparison"]["lavit"] = False
    project.params["models"]["lavit"] = "embedded/lavit"  # which need not be there
    project.generate("lavit")
    assert len(read_table(project.root / "lavit" / "generated.parquet", GENERATED)) == 0


@pytest.mark.parametrize("mode", ["history", "", None])
def test_another_prompt_mode_is_refused_with_the_choices(project: Project, mode: object) -> None:
    project.params["lavit"]["prompt_mode"] = mode
    said = project.generate("lavit", fails=True)
    assert "prompt_mode" in said
    assert "ref_only" in said
    assert "history+ref" in said
