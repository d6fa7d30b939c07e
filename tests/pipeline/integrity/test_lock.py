"""A dvc.lock that was half written is recognised and rebuilt. Run: python -m pytest tests/pipeline/integrity/test_lock.py"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline.integrity.lock import Out, find_fault, list_stages_with_outs, parse_lock, read_outs
from tests.toy_project import REPO, ToyProject, draw_places

COMMITTED = (REPO / "dvc.lock").read_bytes()


def test_the_committed_lock_is_whole() -> None:
    assert find_fault(REPO) is None
    outs = {out.path: out for out in read_outs(REPO)}
    assert outs["data/dataset/items.parquet"].stage == "dataset"
    assert any(out.stage.startswith("generation@") for out in outs.values())


def is_part(left: dict, whole: dict) -> bool:
    """Say whether all stages are as they were, but for outs that the last one may lack."""
    names = list(left)
    if names != list(whole)[: len(names)]:
        return False
    last = names[-1]
    outs = left[last]["outs"]
    return all(left[name] == whole[name] for name in names[:-1]) and left[last] == {**whole[last], "outs": whole[last]["outs"][: len(outs)]}


@pytest.mark.parametrize("at", ["any byte", "ends of lines"])
def test_a_lock_that_was_cut_off_is_broken_or_holds_whole_entries_only(at: str) -> None:
    whole = yaml.load(COMMITTED, Loader=yaml.CSafeLoader)["stages"]
    ends = [place + 1 for place, byte in enumerate(COMMITTED[:-1]) if byte == ord("\n")]
    places = draw_places(len(COMMITTED), 100) if at == "any byte" else [ends[i] for i in draw_places(len(ends), 60)]
    stages = list_stages_with_outs(REPO)
    num_accepted = 0
    for place in places:
        document, fault = parse_lock(COMMITTED[:place], stages_with_outs=stages)
        if fault is None:
            num_accepted += 1
            assert is_part(document["stages"], whole), f"cut off at byte {place}"
    assert num_accepted < len(places) / 2  # most cuts lie inside of an entry or before a stage's outs


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"schema: '2.0'", "cut off in the middle of a line"),
        (b"schema: '2.0'\n", "no stages"),
        (b"schema: '2.0'\nstages:\n", "no stages"),
        (b"schema: '2.0'\nstages:\n  a:\n", "stage a has no command"),
        (b"schema: '2.0'\nstages:\n  a:\n    cmd: x\n", "stage a has no outs"),
        (b"schema: '2.0'\nstages:\n  a:\n    cmd: x\n    outs:\n    - path: o\n", "no whole entry of o"),
        (
            b"schema: '2.0'\nstages:\n  a:\n    cmd: x\n    outs:\n    - {path: o, hash: md5, md5: 00, size: 1}\n",
            "no whole entry of o",
        ),
        (b"schema: '2.0'\nstages:\n  a: [\n", "expected"),
        (b"- 1\n", "no stages"),
        (b"schema: '2.0'\nstages:\n  \xff\n", "decode"),
    ],
)
def test_every_kind_of_fault_is_named(text: bytes, fault: str) -> None:
    assert fault in (parse_lock(text, stages_with_outs=["a"])[1] or "")


def test_a_stage_without_outs_and_one_of_a_group_are_whole() -> None:
    text = "schema: '2.0'\nstages:\n  check:\n    cmd: x\n  a@1:\n    cmd: y\n    outs:\n    - {path: o, hash: md5, md5: '%s', size: 3}\n" % (
        "0" * 32
    )
    document, fault = parse_lock(text.encode(), stages_with_outs=["a"])
    assert fault is None
    assert list(document["stages"]) == ["check", "a@1"]


def test_without_a_lock_there_are_no_outs(tmp_path: Path) -> None:
    assert read_outs(tmp_path) == []
    assert find_fault(tmp_path) is None


def test_a_broken_lock_is_one_sentence_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstag")
    with pytest.raises(ValueError, match=r"dvc.lock is broken \(it is cut off .*`make repro`"):
        read_outs(tmp_path)


def test_a_folder_is_told_from_a_file() -> None:
    assert Out("a", "x", "0" * 32 + ".dir").is_folder
    assert not Out("a", "x", "0" * 32).is_folder


def test_what_only_dvc_would_refuse_is_a_fault_too(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_bytes(COMMITTED)
    assert find_fault(tmp_path) is None
    size = COMMITTED[COMMITTED.index(b"      size: ") :].partition(b"\n")[0]
    for old, new in ((b"    hash: md5\n", b"    hasi: md5\n"), (b"\n    params:\n", b"\n    parqms:\n"), (size, b"      size: 11:3")):
        assert COMMITTED.count(old)
        (tmp_path / "dvc.lock").write_bytes(COMMITTED.replace(old, new, 1))
        assert re.search("extra keys not allowed|expected int", find_fault(tmp_path) or ""), new


def test_stages_that_are_no_longer_in_the_pipeline_have_no_outs(tmp_path: Path) -> None:
    entry = "  %s:\n    cmd: x\n    outs:\n    - {path: %s, hash: md5, md5: '" + "0" * 32 + "', size: 1}\n"
    names = ("make", "mbke", "add@1", "add@3", "each@a", "each@c", "any@b", "make@1", "add")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n" + "".join(entry % (name, name) for name in names))
    assert len(read_outs(tmp_path)) == len(names)  # without a pipeline there is nothing to compare with
    stage = "do: {cmd: x, outs: [o]}"
    groups = f"  add: {{foreach: [1, 2], {stage}}}\n  each: {{foreach: {{a: 1, b: 2}}, {stage}}}\n  any: {{foreach: '${{items}}', {stage}}}\n"
    (tmp_path / "dvc.yaml").write_text("stages:\n  make: {cmd: x, outs: [o]}\n" + groups)
    assert [out.stage for out in read_outs(tmp_path)] == ["make", "add@1", "each@a", "any@b"]


@pytest.mark.slow
def test_a_stage_whose_name_was_damaged_or_changed_blocks_nothing(project: ToyProject) -> None:
    lock = project.root / "dvc.lock"
    lock.write_text(lock.read_text().replace("\n  make:", "\n  mbke:", 1))
    project.run("dvc", "repro")
    (project.root / "in.txt").write_text("2000")
    assert "Running stage 'join'" in project.run("dvc", "repro")
    assert project.integrity("outs") == ""
    assert "all is well" in project.integrity("verify")


@pytest.mark.slow
def test_a_lock_cut_off_anywhere_is_rebuilt_to_the_same_bytes_and_nothing_runs(finished: ToyProject, tmp_path: Path) -> None:
    whole = (finished.root / "dvc.lock").read_bytes()
    between = whole.index(b"    - path: data/make/rows.csv", whole.index(b"outs:"))  # a beginning that DVC accepts
    for number, place in enumerate([0, between, whole.index(b"  add@1"), *draw_places(len(whole), 6)]):
        project = finished.copy_to(tmp_path / str(number) / "project")
        (project.root / "dvc.lock").write_bytes(whole[:place])
        said = project.integrity("lock")
        assert "Traceback" not in said
        assert "Running stage" not in project.run("dvc", "repro"), place
        assert (project.root / "dvc.lock").read_bytes() == whole, place
        assert project.integrity("lock") == ""


def test_verify_says_what_is_wrong_with_the_lock_keeps_it_aside_and_rebuilds_it(project: ToyProject) -> None:
    whole = (project.root / "dvc.lock").read_bytes()
    (project.root / "dvc.lock").write_bytes(whole[:700])
    said = project.integrity("verify")
    assert "dvc.lock is broken (" in said
    assert "Running stage" not in said
    assert (project.root / "dvc.lock").read_bytes() == whole
    kept = list((project.root / ".dvc" / "tmp" / "damaged").rglob("dvc.lock"))
    assert [path.read_bytes() for path in kept] == [whole[:700]]
    assert "all is well" in project.integrity("verify")
