"""Reflection and generation from the command line, with tiny models. Run: `python -m pytest tests/stages/test_reflection_and_generation.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.artifacts import build_table, read_provenance, read_table, write_table
from pipeline.conditioning.conditioner import load_conditioner
from pipeline.data.images import decode_image
from pipeline.generation.build import list_methods
from pipeline.json_files import read_json
from pipeline.schemas import CASES, GENERATED, REJECTED, RETRIEVED
from tests.stages.drawing_project import CASE_IDS, Project


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Project:
    return Project(tmp_path, models)


def test_reflection_writes_the_trained_conditioner_its_metrics_and_curves(project: Project) -> None:
    assert "6 rows in, 6 computed, 0 reused, 0 rejected" in project.reflect()
    metrics = read_json(project.root / "reflection" / "metrics.json")
    assert (metrics["num_steps"], metrics["train_cases"], metrics["validation_cases"]) == (3, 4, 2)
    assert set(metrics["before"]) == set(metrics["kept"]) == {"score", "reward", "rank"}
    curves = (project.root / "reflection" / "curves.csv").read_text().splitlines()
    assert len(curves) == 5  # header, the start, three steps
    assert curves[0].startswith("step,loss,loss_rank,loss_calibration,loss_semantic,grad,")
    _, facts = load_conditioner(project.root / "reflection" / "calibrator.safetensors")
    assert {"ranker", "diffusion", "language_model", "params", "seed"} <= set(facts)


def test_reflection_logs_every_step_to_dvclive(project: Project) -> None:
    project.reflect()
    live = project.root / "reflection" / "live"
    logged = {path.stem: path.read_text().splitlines() for path in (live / "plots" / "metrics").glob("*.tsv")}
    columns = (project.root / "reflection" / "curves.csv").read_text().splitlines()[0].split(",")
    assert set(logged) == {*columns} - {"step"}
    assert [line.split("\t")[0] for line in logged["grad_rank"]] == ["step", "1", "2", "3"]
    assert [line.split("\t")[0] for line in logged["validation_score"]] == ["step", "0", "2", "3"]
    assert read_json(live / "metrics.json")["step"] == 3
    assert not (project.root / "dvc.yaml").exists()


def test_reflection_gives_the_same_bytes_again_with_and_without_its_ledger(project: Project) -> None:
    project.reflect()
    first = project.hash_outs("reflection")
    project.reflect()
    assert project.hash_outs("reflection") == first
    shutil.rmtree(project.root / ".work")
    project.reflect()
    assert project.hash_outs("reflection") == first


def test_an_ablation_without_retrieval_needs_no_common_space(project: Project) -> None:
    write_table(project.root / "retrieved.parquet", build_table([], RETRIEVED), RETRIEVED, provenance={})
    project.params["reflection"]["num_perturbations"] = 0
    project.reflect()
    last = (project.root / "reflection" / "curves.csv").read_text().splitlines()[-1].split(",")
    assert last[2:4] == ["", ""]  # neither rank nor calibration loss
    assert float(last[4]) > 0


def test_every_method_draws_every_test_case_or_says_why_not(project: Project) -> None:
    project.reflect()
    calibrator = "reflection/calibrator.safetensors"
    for method in ("original", "truth", "sd", "keywords", "retrieved", "global", "ragar"):
        project.generate(method, calibrator=calibrator)
        table = read_table(project.root / method / "generated.parquet", GENERATED)
        rejected = read_table(project.root / method / "rejected.parquet", REJECTED).to_pylist()
        assert sorted(table["case_id"].to_pylist() + [row["row_key"] for row in rejected]) == CASE_IDS[6:]
        assert set(table["method"].to_pylist()) == {method}
        assert all(decode_image(image["bytes"]).size == (16, 16) for image in table["image"].to_pylist())
        assert [row["row_key"] for row in rejected] == (["c09"] if method == "truth" else [])
        first = project.hash_outs(method)
        assert "0 computed" in project.generate(method, calibrator=calibrator)
        assert project.hash_outs(method) == first
    images = {m: read_table(project.root / m / "generated.parquet", GENERATED)["image"].to_pylist() for m in ("sd", "global", "ragar")}
    assert images["sd"] != images["global"] != images["ragar"]


def test_methods_without_language_model_neither_load_it_nor_depend_on_it(project: Project) -> None:
    project.generate("sd")
    first = project.hash_outs("sd")
    project.params["models"]["language_model"] = str(project.root / "missing")
    assert "0 computed" in project.generate("sd")
    assert project.hash_outs("sd") == first
    project.generate("global")
    facts = read_provenance(project.root / "global" / "generated.parquet")
    assert facts["method"] == "global"
    assert facts["identity"]["steps"] == 2
    assert "language_model" not in facts["identity"]


def test_a_method_that_needs_the_calibrator_says_so(project: Project) -> None:
    assert "needs --calibrator" in project.generate("ragar", fails=True)


def test_an_unknown_method_is_named_with_the_choices(project: Project) -> None:
    assert ", ".join(list_methods()) in project.generate("dall-e", fails=True)


def test_too_many_rejected_cases_end_in_one_clear_error(project: Project) -> None:
    project.params["generation"]["max_rejected_fraction"] = 0.1
    assert "1 of 4 rows were rejected" in project.generate("truth", fails=True)


def test_a_data_set_without_truths_draws_none_and_goes_on(project: Project) -> None:
    project.params["generation"]["max_rejected_fraction"] = 0.1
    path = project.root / "cases.parquet"
    cases = read_table(path, CASES).to_pylist()
    write_table(path, [{**case, "truth_id": None} for case in cases], CASES, provenance={})
    project.generate("truth")
    assert read_table(project.root / "truth" / "rejected.parquet", REJECTED).num_rows == 4
    assert read_table(project.root / "truth" / "generated.parquet", GENERATED).num_rows == 0
