"""The stage glide, and what is drawn with the model that it tunes. Run: `python -m pytest tests/stages/test_glide_tuning.py`."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.artifacts import read_table, read_tensors
from pipeline.cost import find_cost
from pipeline.json_files import read_json
from pipeline.schemas import GENERATED
from stages import glide
from tests import configs
from tests.stages.drawing_project import Project
from tests.tiny_glide import save_tiny_glide


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    made = Project(tmp_path, {**models, "glide": str(save_tiny_glide(tmp_path / "glide-model"))})
    made.params["glide"] = asdict(configs.GLIDE)
    return made


def tune(project: Project, **options: bool) -> str:
    return project.run(glide, cases="cases.parquet", items="items.parquet", captions="captions.parquet", out="tuned", **options)


def draw(project: Project) -> list[bytes]:
    project.generate("glide", glide="tuned/base.safetensors")
    return [image["bytes"] for image in read_table(project.root / "glide" / "generated.parquet", GENERATED)["image"].to_pylist()]


def test_glide_is_not_tuned_by_default_and_draws_as_without_the_stage(project: Project) -> None:
    project.params["glide"]["tuning"]["num_steps"] = 0
    project.generate("glide")
    plain = read_table(project.root / "glide" / "generated.parquet", GENERATED)
    assert "glide: 0 rows in" in tune(project)
    assert read_tensors(project.root / "tuned" / "base.safetensors")[0] == {}
    assert "0 computed" in project.generate("glide", glide="tuned/base.safetensors")
    assert read_table(project.root / "glide" / "generated.parquet", GENERATED).equals(plain)


def test_glide_is_tuned_to_the_same_bytes_again_and_draws_with_what_it_has_learnt(project: Project) -> None:
    project.generate("glide")
    plain = [image["bytes"] for image in read_table(project.root / "glide" / "generated.parquet", GENERATED)["image"].to_pylist()]
    assert "3 rows in" in tune(project)
    metrics, cost = read_json(project.root / "tuned" / "metrics.json"), find_cost(project.root / "tuned" / "base.safetensors")
    assert metrics["validation_loss"] < metrics["validation_loss_before"]
    assert cost is not None
    assert cost["seconds"] > 0
    first = project.hash_outs("tuned")
    shutil.rmtree(project.root / ".work")
    tune(project)
    assert project.hash_outs("tuned") == first
    assert all(before != after for before, after in zip(plain, draw(project), strict=True))


def test_other_drawing_settings_train_nothing_again(project: Project) -> None:
    tune(project)
    first = project.hash_outs("tuned")
    project.params["glide"]["sampling"]["guidance_scale"] = 1.5
    tune(project)
    assert project.hash_outs("tuned") == first


def test_tuning_without_weights_or_training_users_is_one_clear_error(project: Project) -> None:
    project.limit_cases({"c06", "c07"})  # of the split test
    assert "so there is nothing to tune on" in tune(project, fails=True)
    project.params["models"]["glide"] = None
    assert "models.glide is null" in tune(project, fails=True)
