"""What dvc.yaml lets depend on what. Run: python -m pytest tests/stages/test_dag.py"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, parse_yaml

from pipeline import code

REPO = Path(__file__).resolve().parents[2]
HASHES = "data/code/hashes.json"
TRAINED_OR_DRAWN = ("retrieval", "preference", "ranker", "mapper", "reflection", "generation")
CHECK_FILES = ("data/ranker_check",)
RULER = "ranker_check"  # all that the frozen evaluation ranker depends on:
RULER_DEPS = {"data/dataset/items.parquet", "data/dataset/interactions.parquet", "requirements-weights.lock"}
RULER_PARAMS = {"ranker_check", "models.check_visual"}
RULER_PACKAGES = {"pipeline/cluster", "pipeline/data", "pipeline/metrics", "pipeline/models", "pipeline/ranker_check"}  # and modules that lie in none
CHECK_PARAMS = ("ranker_check", "models.check_visual")


def read_pipeline(text: str) -> dict[str, dict[str, Any]]:
    """Return every stage's definition; of a foreach stage the one that its items share, its items' own deps included."""
    stages = {}
    for name, stage in yaml.safe_load(text)["stages"].items():
        definition = dict(stage.get("do", stage))
        items = stage.get("foreach", {}).values()
        definition["deps"] = [dep for dep in definition["deps"] if "${item" not in dep]
        definition["deps"] += [value for item in items for key, value in item.items() if key != "arguments"]
        stages[name] = definition
    return stages


@pytest.fixture
def stages() -> dict[str, dict[str, Any]]:
    return read_pipeline((REPO / "dvc.yaml").read_text(encoding="utf-8"))


def list_params(definition: dict[str, Any]) -> list[str]:
    """Return the names of a stage's params in params.yaml."""
    return [param for param in definition.get("params", []) if isinstance(param, str)]


def find_code_faults(stages: dict[str, dict[str, Any]]) -> list[str]:
    """Say of every stage that does not depend on the hash of exactly the code that it runs what is wrong."""
    faults = []
    known = code.hash_stages()
    for name, definition in stages.items():
        module = re.search(r"-m stages\.(\w+)", definition["cmd"])
        ran = module[1] if module else ""
        listed = [key for param in definition.get("params", []) if isinstance(param, dict) for key in param.get(HASHES, [])]
        wanted = {"dataset": "dataset.${dataset.name}", "generation": "generation.${key}"}.get(ran, ran)
        if ran == "code":
            faults += [] if definition["deps"] == list(code.PACKAGES) else ["code: its deps are not the folders of the code"]
        elif listed != [wanted] or ran not in known:
            faults.append(f"{name}: runs stages.{ran}, but depends on the code of {listed}")
        if ran != "code" and any(str(dep).split("/")[0] in code.PACKAGES for dep in definition["deps"]):
            faults.append(f"{name}: names a file of the code among its deps")
    return faults


def test_every_stage_depends_on_the_hash_of_the_code_that_it_runs(stages: dict[str, dict[str, Any]]) -> None:
    assert find_code_faults(stages) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hashes.json: [ranker_check]", "hashes.json: [ranker]"),
        ("hashes.json: [captioning]", "hashes.json: [embedding]"),
        (", {data/code/hashes.json: [preference]}", ""),
        ("      - pipeline\n", ""),
        ("generation.${key}", "generation.ragar"),
        ("      - data/extra\n", "      - data/extra\n      - pipeline/artifacts.py\n"),
        ("-m stages.ranker_check", "-m stages.ranker"),
    ],
)
def test_a_wrong_dependency_on_code_is_found_whatever_comments_surround_it(old: str, new: str) -> None:
    text = (REPO / "dvc.yaml").read_text(encoding="utf-8").replace("hashes.json: [ranker_check]}]", "hashes.json: [ranker_check]}]  # a comment")
    assert old in text
    assert find_code_faults(read_pipeline(text.replace(old, new)))


def list_upstream(name: str, stages: dict[str, dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Return the paths that a stage depends on, directly or through others, and the stages that write them."""
    writers = [(out.split("${")[0].rstrip("/"), stage) for stage, definition in stages.items() for out in definition["outs"]]
    paths: set[str] = set()
    found: set[str] = set()
    todo = list(stages[name]["deps"])
    while todo:
        path = todo.pop()
        if path not in paths:
            paths.add(path)
            made_by = {stage for out, stage in writers if path == out or path.startswith(f"{out}/")}
            todo += [dep for stage in made_by - found for dep in stages[stage]["deps"]]
            found |= made_by
    return paths, found


@pytest.mark.parametrize("name", TRAINED_OR_DRAWN)
def test_nothing_that_is_trained_or_drawn_depends_on_the_second_ranker(name: str, stages: dict[str, dict[str, Any]]) -> None:
    paths, upstream = list_upstream(name, stages)
    assert not [path for path in paths if path.startswith(CHECK_FILES)]
    assert "ranker_check" not in upstream
    assert not set(CHECK_PARAMS) & set(list_params(stages[name]))
    assert not any(word in stages[name]["cmd"] for word in ("ranker_check", "ranker-check"))
    closure = code.compute_closure({REPO / "stages" / f"{name}.py"})
    assert REPO / "stages" / "ranker_check.py" not in closure


def list_changed(stage: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the stage's params that differ between two composed documents, as DVC looks at them."""

    def read(document: Any, name: str) -> Any:
        for part in name.split("."):
            document = document[part]
        return document

    return [name for name in list_params(stage) if read(before, name) != read(after, name)]


def list_values(block: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all values of the params."""
    if not isinstance(block, dict):
        return [prefix]
    return [name for key, value in block.items() for name in list_values(value, f"{prefix}.{key}" if prefix else str(key))]


def test_no_param_of_the_method_reaches_the_evaluation_ranker(stages: dict[str, dict[str, Any]]) -> None:
    ruler = stages[RULER]
    assert set(ruler["deps"]) == RULER_DEPS
    assert set(list_params(ruler)) == RULER_PARAMS
    _, upstream = list_upstream(RULER, stages)
    assert upstream == {"dataset"}
    document = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    reaches = []
    for name in list_values(document):
        after = copy.deepcopy(document)
        *path, last = name.split(".")
        block = after
        for part in path:
            block = block[part]
        block[last] = "changed"
        changed = [stage for stage in (RULER, "dataset") if list_changed(stages[stage], document, after)]
        reaches += [name] if changed else []
    assert {name.split(".")[0] for name in reaches} == {"seed", "dataset", "ranker_check", "models"}  # the first two make the data set
    assert [name for name in reaches if name.startswith("models.")] == ["models.check_visual"]


def test_the_evaluation_ranker_runs_no_code_of_the_method() -> None:
    closure = code.compute_closure({REPO / "stages" / f"{RULER}.py"})
    folders = {path.parent.relative_to(REPO).as_posix() for path in closure} - {"pipeline", "stages"}
    assert folders == RULER_PACKAGES
    assert not any((REPO / "pipeline" / name).with_suffix(".py") in closure for name in ("embedding", "captioning"))


@pytest.mark.parametrize("profile", ["embedded", "paper"])
def test_the_method_sees_by_no_model_of_the_evaluation_ranker(profile: str) -> None:
    models = yaml.safe_load((REPO / "conf" / "models" / f"{profile}.yaml").read_text(encoding="utf-8"))["models"]
    used = ("captioner", "clip", "visual", "language_model", "diffusion", "selection_clip")
    assert models["check_visual"] not in {models[role] for role in used}


def test_the_evaluation_depends_on_both_rankers_and_every_method(stages: dict[str, dict[str, Any]]) -> None:
    paths, upstream = list_upstream("evaluation", stages)
    assert {"ranker", "ranker_check", "generation", "ti", "pmg", "sd", "reflection"} <= upstream
    assert {"data/ranker/ranker.safetensors", "data/ranker_check/ranker.safetensors", "data/generation"} <= paths


def test_only_the_selected_data_sets_raw_files_are_a_dependency(stages: dict[str, dict[str, Any]]) -> None:
    named = [dep for definition in stages.values() for dep in definition["deps"]]
    assert [dep for dep in named if "raw" in dep and dep.startswith(("data/", "$"))] == ["${dataset.raw}"]


def test_the_upstream_of_reflection_is_what_it_must_be(stages: dict[str, dict[str, Any]]) -> None:
    _, upstream = list_upstream("reflection", stages)
    assert upstream == {"dataset", "captioning", "embedding", "retrieval", "keywords", "look", "preference", "ranker", "mapper"}


def test_dvc_yaml_is_a_page_that_a_person_reads() -> None:
    assert len((REPO / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 400


def list_commands(text: str) -> dict[str, str]:
    """Return the command of every stage by its name, of a foreach stage one per item."""
    commands = {}
    for name, stage in yaml.safe_load(text)["stages"].items():
        for key, item in stage.get("foreach", {"": {}}).items():
            command = stage.get("do", stage)["cmd"].replace("${key}", key)
            for field, value in item.items():
                command = command.replace(f"${{item.{field}}}", value)
            commands[f"{name}@{key}" if key else name] = command
    return commands


def find_changed_by_the_lock(commands: dict[str, str]) -> list[str]:
    """Name the stages whose command DVC reads otherwise from dvc.lock than it has written it."""
    written = dumps_yaml({"schema": "2.0", "stages": {name: {"cmd": command} for name, command in commands.items()}})
    return [name for name, stage in parse_yaml(written, "dvc.lock")["stages"].items() if stage["cmd"] != commands[name]]


def test_every_command_comes_back_from_dvc_lock_as_it_was_so_that_no_stage_is_out_of_date_when_it_has_run() -> None:
    commands = list_commands((REPO / "dvc.yaml").read_text(encoding="utf-8"))
    assert {"ti@ti", "generation@original", "evaluation"} <= set(commands)
    assert find_changed_by_the_lock(commands) == []


def test_two_spaces_where_dvc_folds_a_command_are_found() -> None:
    # an option that is empty leaves them, and one of them is lost
    command = "python -m stages.ti --cases data/dataset/cases.parquet --items data/dataset/items.parquet --captions data/captioning/captions.parquet"
    assert find_changed_by_the_lock({"one": f"{command} --out data/ti/ti", "two": f"{command}  --out data/ti/ti"}) == ["two"]
