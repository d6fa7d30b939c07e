"""What dvc.yaml lets depend on what. Run: python -m pytest tests/stages/test_dag.py"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.import_closure import DVC_YAML, REPO, compute_closure

TRAINED_OR_DRAWN = ("retrieval", "preference", "ranker", "mapper", "reflection", "generation")
CHECK_FILES = ("data/ranker_check/", "data/embedding/check.parquet")
CHECK_PARAMS = ("ranker_check", "models.check_visual")


def read_stages() -> dict[str, dict[str, Any]]:
    """Return every stage's definition; of a foreach stage the one that its items share, its items' own deps included."""
    stages = {}
    for name, stage in yaml.safe_load(DVC_YAML.read_text(encoding="utf-8"))["stages"].items():
        definition = dict(stage.get("do", stage))
        items = stage.get("foreach", {}).values()
        definition["deps"] = [dep for dep in definition["deps"] if "${" not in dep]
        definition["deps"] += [value for item in items for key, value in item.items() if key != "arguments"]
        stages[name] = definition
    return stages


def list_upstream(name: str, stages: dict[str, dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Return the files that a stage depends on, directly or through others, and the stages that write them."""
    writer_of = {out: stage for stage, definition in stages.items() for out in definition["outs"] if isinstance(out, str)}
    files: set[str] = set()
    todo = list(stages[name]["deps"])
    while todo:
        dep = todo.pop()
        if dep not in files:
            files.add(dep)
            todo += stages[writer_of[dep]]["deps"] if dep in writer_of else []
    return files, {writer_of[dep] for dep in files if dep in writer_of}


@pytest.mark.parametrize("name", TRAINED_OR_DRAWN)
def test_nothing_that_is_trained_or_drawn_depends_on_the_second_ranker(name: str) -> None:
    stages = read_stages()
    files, upstream = list_upstream(name, stages)
    assert not [path for path in files if path.startswith(CHECK_FILES)]
    assert "ranker_check" not in upstream
    assert not set(CHECK_PARAMS) & set(stages[name]["params"])
    assert not any(word in stages[name]["cmd"] for word in ("ranker_check", "ranker-check", "check_embeddings", "check-embeddings"))
    assert "stages/ranker_check.py" not in compute_closure(REPO / "stages" / f"{name}.py")


@pytest.mark.parametrize("profile", ["embedded", "paper"])
def test_the_two_rankers_see_by_different_models(profile: str) -> None:
    models = yaml.safe_load((REPO / "conf" / "models" / f"{profile}.yaml").read_text(encoding="utf-8"))["models"]
    assert len({models["visual"], models["check_visual"]}) == 2


def test_the_evaluation_depends_on_both_rankers() -> None:
    files, upstream = list_upstream("evaluation", read_stages())
    assert {"ranker", "ranker_check"} <= upstream
    assert {"data/ranker/ranker.safetensors", "data/ranker_check/ranker.safetensors"} <= files


def test_only_the_selected_data_sets_raw_files_are_a_dependency() -> None:
    named = [dep for stage in yaml.safe_load(DVC_YAML.read_text(encoding="utf-8"))["stages"].values() for dep in stage.get("do", stage)["deps"]]
    assert [dep for dep in named if "raw" in dep and dep.startswith(("data/", "$"))] == ["${dataset.raw}"]


def test_the_upstream_of_reflection_is_what_it_must_be() -> None:
    _, upstream = list_upstream("reflection", read_stages())
    assert upstream == {"dataset", "captioning", "embedding", "retrieval", "keywords", "preference", "ranker", "mapper"}
