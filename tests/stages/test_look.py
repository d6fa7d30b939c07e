"""The stage look from the command line, with tiny models. Run: `python -m pytest tests/stages/test_look.py`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.artifacts import read_table, read_tensors
from pipeline.json_files import read_json
from pipeline.models.look import load_look_map
from pipeline.schemas import CASES, GENERATED
from stages import look
from tests.configs import PARAMS
from tests.stages.drawing_project import CASE_IDS, Project, save_models
from tests.tiny_encoders import CLIP_DIM
from tests.tiny_models import TOKEN_DIM

SMALL = {"width": 8, "num_steps": 6, "batch_size": 4, "learning_rate": 0.01, "max_lessons": 8, "validation_lessons": 4, "validation_every": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    made = Project(tmp_path, models)
    made.params |= {name: dict(PARAMS[name]) for name in ("look", "preference", "retrieval")}
    made.params["look"] |= SMALL
    made.params["preference"]["visual_tokens"] = 3
    made.params["models"]["look"] = str(tmp_path / "look")
    return made


def train(project: Project, **options: Any) -> str:
    tables = {name: f"{name}.parquet" for name in ("cases", "items", "captions", "embeddings")}
    return project.run(look, **{**tables, "out": "look", **options})


def read_curve(project: Project) -> list[dict[str, str]]:
    return list(csv.DictReader((project.root / "look" / "curves.csv").read_text().splitlines()))


def test_a_map_is_trained_on_left_out_pictures_of_training_users(project: Project) -> None:
    assert "8 rows in, 8 computed" in train(project)  # of four users with three pictures each, as many as the params allow
    made = load_look_map(project.root / "look" / "model.safetensors")
    assert vars(made.shape) == {"visual_dim": CLIP_DIM, "text_dim": TOKEN_DIM, "width": 8, "num_tokens": 3, "token_dim": TOKEN_DIM}
    assert made.no_look_MD.abs().max() > 0  # learned with the map
    metrics = read_json(project.root / "look" / "metrics.json")
    assert metrics["num_lessons"] == 8
    assert metrics["validation_loss"] != metrics["validation_loss_before"]
    assert [row["step"] for row in read_curve(project)] == [str(step) for step in range(7)]


def test_a_long_training_lowers_the_loss_of_a_picture_that_it_sees_again_and_again(project: Project) -> None:
    cases = read_table(project.root / "cases.parquet", CASES).to_pylist()
    project.write_table(CASES, [{**case, "history": ["i00", "i01"]} for case in cases])
    project.params["look"] |= {"num_steps": 60, "validation_every": 60, "no_look_share": 0.0, "learning_rate": 0.05}
    train(project)
    metrics = read_json(project.root / "look" / "metrics.json")
    assert metrics["validation_loss"] < metrics["validation_loss_before"]
    assert metrics["validation_loss"] < metrics["validation_loss_no_look"]


def test_the_same_inputs_give_the_same_bytes_with_and_without_checkpoints(project: Project) -> None:
    train(project)
    first = project.hash_outs("look")
    train(project)
    assert project.hash_outs("look") == first


def test_what_the_stage_made_is_what_is_drawn_with(project: Project) -> None:
    train(project)
    project.generate("ip_adapter", embeddings="embeddings.parquet")
    assert read_table(project.root / "ip_adapter" / "generated.parquet", GENERATED)["case_id"].to_pylist() == CASE_IDS[6:]


@pytest.mark.parametrize(
    "change",
    [
        {"models": {"look": "embedded/look"}},
        {"models": {"look": None}},
        {"preference": {"visual_tokens": 0}, "comparison": {"ip_adapter": False, "oracle": False}},
    ],
)
def test_there_is_nothing_to_do_where_other_weights_are_named_or_nobody_asks(project: Project, change: dict[str, dict[str, Any]]) -> None:
    for block, values in change.items():
        project.params[block] |= values
    assert "0 rows in" in train(project)
    tensors, _ = read_tensors(project.root / "look" / "model.safetensors")
    assert (tensors, read_json(project.root / "look" / "metrics.json")["num_lessons"]) == ({}, 0)
    assert torch.is_grad_enabled()


def test_histories_of_single_pictures_teach_no_look_and_say_so(project: Project) -> None:
    cases = read_table(project.root / "cases.parquet", CASES).to_pylist()
    project.write_table(CASES, [{**case, "history": ["i00"]} for case in cases])
    with pytest.raises(ValueError, match="two pictures with a text, so there is no look to learn from"):
        train(project)
