"""The method as printed, from retrieval to the drawn image, with tiny models. Run: `python -m pytest tests/stages/test_literal_method.py`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from pipeline.artifacts import build_table, get_matrix, read_table, write_table
from pipeline.conditioning.conditioner import load_conditioner
from pipeline.conditioning.mapper import load_mapper
from pipeline.json_files import read_json
from pipeline.params import read_document
from pipeline.schemas import CASES, EMBEDDINGS, GENERATED, KEYWORDS, PREFERENCES, RETRIEVED
from stages import preference, retrieval
from tests.pipeline.test_method import compose
from tests.stages.drawing_project import CASE_IDS, ITEM_IDS, REFLECTION, Project
from tests.tiny_encoders import CLIP_DIM
from tests.tiny_models import TOKEN_DIM

SIZES = ("num_steps", "batch_cases", "learning_rate", "num_perturbations", "reward_steps", "draw_batch", "validation_cases", "validation_every")


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    """A project whose params are the composed `method=literal` in small sizes."""
    project = Project(tmp_path, models)
    literal = read_document(compose(tmp_path, "method=literal"))
    for section in ("retrieval", "preference", "calibrator"):
        project.params[section] = literal[section] | ({"min_count": 1} if section == "preference" else {})
    project.params["reflection"] = literal["reflection"] | {name: getattr(REFLECTION, name) for name in SIZES}
    widen_vectors(tmp_path / "embeddings.parquet")
    rows = [{"item_id": item_id, "keywords": ["neon", item_id]} for item_id in ITEM_IDS]
    write_table(tmp_path / "keywords.parquet", build_table(rows, KEYWORDS), KEYWORDS, provenance={})
    return project


def widen_vectors(path: Path) -> None:
    """Give `semantic` and `clip_image` the width of a token: the printed eq. 13 and 14 compare them with rows of tokens."""
    narrow = read_table(path, EMBEDDINGS)
    wide_ND = torch.nn.functional.normalize(torch.randn(len(narrow), TOKEN_DIM, generator=torch.Generator().manual_seed(4)), dim=1).numpy()
    rows = [
        {"item_id": item_id, "semantic": wide_ND[n], "visual": get_matrix(narrow, "visual")[n], "clip_image": wide_ND[n]}
        for n, item_id in enumerate(narrow["item_id"].to_pylist())
    ]
    dims = {"semantic": TOKEN_DIM, "visual": CLIP_DIM, "clip_image": TOKEN_DIM}
    write_table(path, build_table(rows, EMBEDDINGS, dims=dims), EMBEDDINGS, provenance={})


def run_whole(project: Project) -> None:
    """Run retrieval, preference, reflection and the drawing of RAGAR; the upper tables are replaced by what the stages write."""
    project.run(retrieval, cases="cases.parquet", embeddings="embeddings.parquet", items="items.parquet", out=".")
    tables = {name: f"{name}.parquet" for name in ("cases", "retrieved", "keywords", "items", "captions", "embeddings")}
    project.run(preference, **tables, out=".")
    project.reflect()
    project.generate("ragar", calibrator="reflection/calibrator.safetensors")


def test_a_whole_literal_run_draws_every_test_case(project: Project) -> None:
    run_whole(project)
    assert read_table(project.root / "ragar" / "generated.parquet", GENERATED)["case_id"].to_pylist() == CASE_IDS[6:]


def test_the_printed_preference_knows_the_whole_history_and_nothing_of_the_reference(project: Project) -> None:
    run_whole(project)
    histories = {row["case_id"]: row["history"] for row in read_table(project.root / "cases.parquet", CASES).to_pylist()}
    for row in read_table(project.root / "preferences.parquet", PREFERENCES).to_pylist():
        assert row["global_prompt"] == ", ".join(["neon", *reversed(histories[row["case_id"]])])
        assert "next picture shows" not in row["detailed_prompt"]
    weights = read_table(project.root / "retrieved.parquet", RETRIEVED)["weight"].to_pylist()
    assert len(weights) == 3 * len(CASE_IDS)  # k = 5, but a history has three items


def test_the_printed_rank_loss_moves_nothing_and_the_mapper_stays(project: Project) -> None:
    run_whole(project)
    rows = list(csv.DictReader((project.root / "reflection" / "curves.csv").read_text().splitlines()))[1:]
    assert [float(row["grad_rank"]) for row in rows] == [0.0] * 3
    assert all(float(row["grad_calibration"]) > 0 and float(row["grad_semantic"]) > 0 for row in rows)
    trained, _ = load_conditioner(project.root / "reflection" / "calibrator.safetensors")
    mapper, *_ = load_mapper(project.root / "mapper.safetensors")
    assert all(torch.equal(value, trained.mapper.state_dict()[name]) for name, value in mapper.state_dict().items())
    assert {name.split(".")[0] for name, _ in trained.calibrator.named_parameters()} == {"text_projection", "text_norm"}
    assert read_json(project.root / "reflection" / "metrics.json")["kept_step"] == 3


def test_a_profile_whose_vectors_are_no_tokens_is_refused_with_the_way_out(project: Project) -> None:
    project.write_tables()
    with pytest.raises(ValueError, match=r"reflection\.semantic is 'literal', but E_N\^sem has width 24 and the rows of E\^d have 32"):
        project.reflect()
