"""A stage reads what dvc.lock says or nothing, and removes what killed runs left. Run: python -m pytest tests/stages/test_inputs.py"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from pipeline import code
from pipeline.json_files import write_json
from stages import inputs
from stages.inputs import check_inputs, find_out_folder, prepare, split_arguments


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two outs in dvc.lock, one of a group's instance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    stages = {}
    for stage, path in (("a", "data/a/x.json"), ("b@one", "data/b/one/y.json")):
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text(stage)
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        stages[stage] = {"cmd": "x", "outs": [{"path": path, "hash": "md5", "md5": md5, "size": file.stat().st_size}]}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return tmp_path


@pytest.mark.parametrize("text", ["--in data/a/x.json", "--in=data/a/x.json", "data/a/../a/x.json", "--in data/a", "{root}/data/a"])
def test_an_altered_input_is_refused_however_it_is_named(root: Path, text: str) -> None:
    arguments = text.format(root=root).split()
    check_inputs(arguments, root)
    (root / "data/a/x.json").write_text("A")
    with pytest.raises(ValueError, match=r"data/a/x.json is not what stage a has written .*`make verify`"):
        check_inputs(arguments, root)


def test_an_out_of_a_groups_instance_is_checked_too(root: Path) -> None:
    (root / "data/b/one/y.json").write_text("altered")
    with pytest.raises(ValueError, match="not what stage b@one has written"):
        check_inputs(["--in", "data/a/x.json", "--in", "data/b/one/y.json"], root)


def test_what_the_stage_writes_and_what_it_does_not_read_is_not_checked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "data/a/x.json").write_text("altered")
    check_inputs(["--in", "data/b/one/y.json", "--out", "data/a", "--method", "a"], root)
    check_inputs(["--in", "data/b/one/y.json", "--out=data/a"], root)
    monkeypatch.setenv("DVC_STAGE", "a")
    check_inputs(["--old", "data/a/x.json"], root)


def test_the_users_own_files_missing_ones_and_a_missing_lock_are_no_error(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("elsewhere") / "mine.json"
    other.write_text("mine")
    (root / "data/a/x.json").unlink()
    check_inputs(["--in", str(other), "--in", "data/a/x.json", "--in", "data/new.json"], root)
    (root / "data/a/x.json").write_text("altered")
    (root / "dvc.lock").unlink()
    check_inputs(["--in", "data/a/x.json"], root)


def test_leftovers_of_killed_writers_go_and_nothing_else(root: Path) -> None:
    folder = root / "data" / "a"
    (folder / ".x.json.abcd1234.tmp").write_text("half")
    (folder / "mine.tmp").write_text("kept")
    prepare(["--out", "data/a"], root)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.tmp", "x.json"]
    prepare(["--out", "data/not/there"], root)


def test_options_are_told_from_paths() -> None:
    pairs = split_arguments(["--method", "ragar", "--check", "--out=data/x", "y"])
    assert pairs[:2] == [("--method", "ragar"), ("--out", "data/x")]
    assert pairs[2][1] == "y"
    assert find_out_folder(["--in", "a", "--out", "data/x"]) == Path("data/x")
    assert find_out_folder(["--in", "a"]) is None


@pytest.mark.parametrize(
    ("stage", "key"), [("captioning", "captioning"), ("generation@ragar", "generation"), ("ti@ti_retrieved", "ti"), ("dataset", "dataset")]
)
def test_a_stage_whose_code_has_changed_since_it_was_hashed_does_not_run(
    stage: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {
        "captioning": code.hash_stage("captioning"),
        "ti": code.hash_stage("ti"),
        "generation": {"ragar": code.hash_stage("generation", "ragar")},
    }
    hashes |= {"dataset": {"pog": code.hash_stage("dataset", "pog")}}
    (tmp_path / "params.yaml").write_text("dataset: {name: pog}\n")
    write_json(tmp_path / "data" / "code" / "hashes.json", hashes)
    monkeypatch.setenv("DVC_STAGE", stage)
    inputs.check_code(tmp_path)
    hashes[key] = dict.fromkeys(hashes[key], "other") if isinstance(hashes[key], dict) else "other"
    write_json(tmp_path / "data" / "code" / "hashes.json", hashes)
    with pytest.raises(ValueError, match="run the same command again"):
        inputs.check_code(tmp_path)
    monkeypatch.delenv("DVC_STAGE")
    inputs.check_code(tmp_path)  # by hand, a stage runs as it is
