"""Flipped bytes are found by what reads them, and mended by one command. Run: python -m pytest tests/pipeline/integrity/test_verify.py"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from pipeline.integrity import hashes
from pipeline.integrity.hashes import UNREADABLE, find_mismatches, hash_path
from pipeline.integrity.lock import Out, read_outs
from tests.toy_project import INPUTS, ToyProject, draw_places, flip_byte

READ = [*(f"data/make/{name}" for name in INPUTS), "data/make/many/a.txt", "data/add/1/sum.txt"]


def test_hashes_are_dvcs(finished: ToyProject) -> None:
    outs = read_outs(finished.root)
    assert {out.path for out in outs} >= {"data/make/many", "data/make/rows.csv"}
    assert find_mismatches(outs, finished.root) == []


def test_a_file_is_hashed_in_pieces_and_an_unreadable_one_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").write_bytes(b"0123456789" * 500_000)
    assert hash_path(tmp_path / "big") == hashlib.md5((tmp_path / "big").read_bytes()).hexdigest()

    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashes, "hash_file", fail)
    (mismatch,) = find_mismatches([Out("a", "big", "0" * 32), Out("a", "not there", "0" * 32)], tmp_path)
    assert mismatch.found == UNREADABLE


@pytest.mark.parametrize("path", READ)
def test_no_stage_reads_a_flipped_byte(project: ToyProject, path: str) -> None:
    flip_byte(project.root / path)
    stage = "join" if "many" in path or "add" in path else "add@1"
    said = project.run("dvc", "repro", "--single-item", "--force", stage, code=255)
    damaged = "data/make/many" if "many" in path else path
    assert f"error: {damaged} is not what stage " in said
    assert "`make verify`" in said
    assert "Traceback" not in said


def test_a_damaged_out_is_put_back_from_the_cache(project: ToyProject) -> None:
    before = project.read_all()
    for path in [*READ, "data/join/all.txt"]:
        flip_byte(project.root / path)
    said = project.integrity("verify")
    assert "Running stage" not in said
    for path in ["data/make/many", "data/make/rows.csv", "data/add/1/sum.txt", "data/join/all.txt"]:
        assert f"damaged: {path}: " in said
    assert project.read_all() == before
    assert "all is well (8 of 8 outs are here" in project.integrity("verify")
    assert "didn't change" in project.run("dvc", "repro", "--single-item", "make")


def test_a_damaged_object_is_put_back_from_the_workspace(project: ToyProject) -> None:
    before = project.read_all()
    for path in [*READ, "data/make/many"]:
        flip_byte(project.find_object(path))
    said = project.integrity("verify")
    assert said.count("damaged: .dvc/cache/files/md5/") == len(READ) + 1
    assert "Running stage" not in said
    assert project.read_all() == before
    assert "all is well" in project.integrity("verify")


def test_what_is_damaged_in_both_places_is_computed_again(project: ToyProject) -> None:
    before = project.read_all()
    for path in ("data/make/facts.json", "data/join/all.txt"):
        flip_byte(project.find_object(path))
        flip_byte(project.root / path)
    said = project.integrity("verify")
    assert "Running stage 'make'" in said
    assert "Running stage 'join'" in said
    assert "Running stage 'add@1'" not in said
    assert project.read_all() == before
    assert "all is well" in project.integrity("verify")


@pytest.mark.parametrize("command", [("checkout",), ("repro",)])
def test_a_deleted_out_that_dvc_brings_back_damaged_is_found_by_the_next_reader_and_mended(project: ToyProject, command: tuple[str, ...]) -> None:
    before = project.read_all()
    flip_byte(project.find_object("data/make/facts.json"))
    (project.root / "data" / "make" / "facts.json").unlink()
    project.run("dvc", *command)  # DVC trusts its cache, and says nothing
    assert (project.root / "data/make/facts.json").read_bytes() != before["data/make/facts.json"]
    assert "facts.json is not what stage make" in project.run("dvc", "repro", "--single-item", "--force", "add@1", code=255)
    assert "not what dvc.lock says: data/make/facts.json" in project.integrity("outs", code=2)
    assert "Running stage 'make'" in project.integrity("verify")  # damaged in both places by now
    project.run("dvc", "repro")
    assert project.read_all() == before


def test_computing_by_force_leaves_the_right_file_beside_a_damaged_object(project: ToyProject) -> None:
    before = project.read_all()
    damaged = project.find_object("data/make/facts.json")
    flip_byte(damaged)
    project.run("dvc", "repro", "--force")
    after = project.read_all()
    place = damaged.relative_to(project.root).as_posix()
    assert after.pop(place) != before.pop(place)
    assert after == before
    assert "put 1 object back" in project.integrity("verify")


def test_a_damaged_run_is_set_aside(project: ToyProject) -> None:
    (run,) = [path for path in (project.root / ".dvc/cache/runs").glob("*/*/*") if b"sum.txt" in path.read_bytes() and b"join" in path.read_bytes()]
    text = run.read_text()
    size = text.index("size: ", text.index("outs:")) + 6
    for place, bit in [(text.index("md5: ") + 8, 1), (size, 1), (1, 1), (size, 128)]:  # the last one is no UTF-8
        flip_byte(run, place, bit)
        said = project.integrity("verify")
        assert "damaged: .dvc/cache/runs/" in said
        assert "mended" in said
        assert not run.exists()
        run.parent.mkdir(parents=True, exist_ok=True)  # the empty folder went with it: DVC could not start with one
        run.write_text(text)
    assert "all is well" in project.integrity("verify")


def test_a_flipped_hash_in_the_lock_is_mended(project: ToyProject) -> None:
    before = project.read_all()
    text = (project.root / "dvc.lock").read_text()
    flip_byte(project.root / "dvc.lock", text.index("md5: ", text.index("data/join/all.txt")) + 7)
    assert "data/join/all.txt" in project.integrity("outs", code=2)
    assert "mended" in project.integrity("verify")
    assert project.read_all() == before


def test_what_is_not_there_is_not_damaged(project: ToyProject) -> None:
    shutil.rmtree(project.root / "data" / "make" / "many")
    (project.root / "data" / "join" / "all.txt").unlink()
    assert "all is well (6 of 8 outs are here" in project.integrity("verify")
    shutil.rmtree(project.root / ".dvc" / "cache")
    assert "all is well (6 of 8 outs are here, 0 objects" in project.integrity("verify")
    (project.root / "dvc.lock").unlink()
    assert "all is well (0 of 0 outs are here" in project.integrity("verify")


def test_outs_may_be_asked_of_one_stage_or_group(project: ToyProject) -> None:
    flip_byte(project.root / "data/add/2/sum.txt")
    assert project.integrity("outs", "make", "join") == ""
    assert "data/add/2/sum.txt" in project.integrity("outs", "add", code=2)
    assert project.integrity("outs", "add@1") == ""


def test_while_dvc_runs_verify_waits_for_nobody_and_says_so(project: ToyProject) -> None:
    from dvc.repo import Repo

    with Repo(str(project.root)).lock:
        assert "error: DVC is running here" in project.integrity("verify", code=2)


@pytest.mark.slow
def test_of_random_flips_none_is_silent_and_all_are_mended(finished: ToyProject, tmp_path: Path) -> None:
    whole = finished.read_all()
    names = sorted(name for name in whole if name != "dvc.lock" and not name.startswith(".dvc/cache/runs"))
    for number, place in enumerate(draw_places(sum(len(whole[name]) for name in names), 20, seed=1)):
        project = finished.copy_to(tmp_path / str(number) / "project")
        for name in names:
            if place < len(whole[name]):
                break
            place -= len(whole[name])
        flip_byte(project.root / name, place)
        assert "mended" in project.integrity("verify"), (name, place)
        assert project.read_all() == whole, (name, place)


@pytest.mark.parametrize("cure", ["lock", "verify"])
@pytest.mark.parametrize("left", [b"", b'{"write": {"/a": {"pid": 1', b'{"a": 1}'])
def test_a_half_written_list_of_running_commands_stops_nobody(project: ToyProject, cure: str, left: bytes) -> None:
    claims = project.root / ".dvc" / "tmp" / "rwlock"
    claims.parent.mkdir(exist_ok=True)
    claims.write_bytes(left)
    assert "RWLock-file" in project.run("dvc", "repro", "--single-item", "--force", "join", code=255)
    assert "rwlock was half written" in project.integrity(cure)
    assert "Running stage 'join'" in project.run("dvc", "repro", "--single-item", "--force", "join")
    assert project.integrity("lock") == ""


def test_a_run_that_is_no_text_is_set_aside_before_dvc_reads_it(project: ToyProject) -> None:
    (run,) = [path for path in (project.root / ".dvc/cache/runs").glob("*/*/*") if b"toy_project join" in path.read_bytes()]
    flip_byte(run, 30, 128)
    lock = project.root / "dvc.lock"
    lock.write_text(lock.read_text()[: lock.read_text().index("  join:")])
    assert "is not valid utf-8" in project.run("dvc", "repro", code=255)
    assert "it is no text" in project.integrity("lock")
    assert "Running stage 'join'" in project.run("dvc", "repro")
    assert "all is well" in project.integrity("verify")
