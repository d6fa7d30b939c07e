"""Where the files of a run are, and whether it is of these params. Run: python -m pytest tests/pipeline/draw/test_finished_run.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts import write_table
from pipeline.draw.finished_run import FinishedRun, read_options
from pipeline.generation.build import list_methods
from pipeline.schemas import CAPTIONS
from tests.configs import REPO
from tests.pipeline.draw.toy_run import ToyRun


def test_options_are_read_from_a_stages_command() -> None:
    definition = {"cmd": "python -m stages.toy --method ${key} --cases a/b.parquet ${item.arguments} --out data/toy/${key}"}
    options = read_options(definition, key="sd", item_arguments="--check-embeddings c.parquet")
    assert options == {"method": Path("sd"), "cases": Path("a/b.parquet"), "check_embeddings": Path("c.parquet"), "out": Path("data/toy/sd")}


def test_the_repositorys_own_stages_say_where_everything_is() -> None:
    run = FinishedRun(REPO)
    assert run.list_methods() == list_methods()
    assert run.list_method_files("ragar") == {
        "cases": REPO / "data/dataset/cases.parquet",
        "items": REPO / "data/dataset/items.parquet",
        "preferences": REPO / "data/preference/preferences.parquet",
        "looks": REPO / "data/preference/looks.parquet",
        "calibrator": REPO / "data/reflection/calibrator.safetensors",
    }
    assert run.locate_generated("sd") == REPO / "data/generation/sd/generated.parquet"
    assert run.rankers.check == REPO / "data/ranker_check/ranker.safetensors"
    assert {path.relative_to(REPO).as_posix() for path in run.list_out_folders()} >= {"data/dataset", "data/generation", "data/report"}


def test_a_finished_run_is_taken(toy: ToyRun) -> None:
    toy.run.check()


@pytest.mark.parametrize(
    ("old", "new", "section"),
    [
        ("  k: 5\n", "  k: 7\n", "retrieval"),
        ("num_beams: 1", "num_beams: 2", "captioning"),
        ("semantic_text: text+category", "semantic_text: caption", "embedding"),
        ("min_count: 3", "min_count: 2", "preference"),
        ("num_users: 500", "num_users: 400", "dataset"),
    ],
)
def test_params_that_have_changed_since_are_named(toy: ToyRun, old: str, new: str, section: str) -> None:
    text = toy.run.params.read_text()
    assert text.count(old) == 1
    toy.run.params.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=f"the block `{section}` is not what .* was made with; finish a run with these params first"):
        FinishedRun(toy.folder).check()


def test_a_run_that_is_not_finished_or_not_there_is_a_sentence(toy: ToyRun, tmp_path: Path) -> None:
    toy.run.locate("report", "preferences").unlink()
    with pytest.raises(ValueError, match=r"preferences.parquet does not exist; finish a run with these params first \(`make repro`"):
        toy.run.check()
    with pytest.raises(ValueError, match="holds no dvc.yaml; run this in the repository's root"):
        FinishedRun(tmp_path / "elsewhere").check()


def test_pictures_of_other_models_are_not_taken_for_the_runs(toy: ToyRun) -> None:
    toy.write_generated("sd", {}, {"seed": 0, "steps": 20})
    toy.run.check_identity("sd", {"steps": 20, "seed": 0})
    with pytest.raises(ValueError, match="was drawn with other params or models"):
        toy.run.check_identity("sd", {"steps": 21, "seed": 0})


def test_a_table_of_another_kind_is_named(toy: ToyRun) -> None:
    path = toy.run.locate("evaluation", "cases")
    write_table(path, [], CAPTIONS, provenance={})
    with pytest.raises(ValueError, match="column `case_id` is missing|unknown column"):
        _ = FinishedRun(toy.folder).cases
