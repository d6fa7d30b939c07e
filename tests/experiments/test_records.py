"""A record gives back what a run was, on any machine. Run: python -m pytest tests/experiments/test_records.py -q"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from experiments.names import STYLE
from experiments.plan import Plan
from experiments.records import Records, describe_agreement, read_record, write_record
from experiments.results import Cost, RunResult
from experiments.runs import DEFAULT, Run
from tests.experiments.made import good, make_result

COST = Cost(is_trained=True, training_seconds=None, seconds_per_image=0.1 + 0.2, peak_memory_mb=7.0, machine="1 thread", grows_with_users=True)


def make(name: str = "default", *, fingerprint: str = "0123456789") -> RunResult:
    result = dataclasses.replace(
        make_result(Run(name), good, num_users=12),
        experiment=f"ragar-{name}-{fingerprint}",
        dataset="stylemoji",
        costs={"ragar": COST},
        trainings={"ti": {"loss": [0.1, None]}},
        assignment_p={"ragar": 1 / 3},
        held_out_share=1.0,
        stage_seconds={"ranker": 41.2},
    )
    result.by_user["ragar"][STYLE] = {"u0003": 1 / 3, "u0001": 0.1 + 0.2}  # not every user has every metric
    result.by_user["truth"]["cpis"] = {}
    return result


def plan(run: Run = DEFAULT, fingerprint: str = "0123456789") -> Plan:
    return Plan(run, fingerprint)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.setattr("experiments.records.list_stored", lambda root: {})
    return Records(tmp_path / "runs", tmp_path)


def test_a_result_comes_back_to_the_last_bit(records: Records) -> None:
    write_record(records.folder, make())
    assert records.read([plan()]) == {"default": make()}


def test_the_same_result_gives_the_same_bytes(records: Records) -> None:
    write_record(records.folder, make())
    before = [path.read_bytes() for path in records.folder.iterdir()]
    write_record(records.folder, make())
    assert [path.read_bytes() for path in records.folder.iterdir()] == before


def test_plans_with_one_fingerprint_share_a_record_and_others_have_none(records: Records) -> None:
    write_record(records.folder, make())
    read = records.read([plan(), plan(Run("ret")), plan(Run("k-7"), "ffffffffff")])
    assert read.keys() == {"default", "ret"}
    assert read["ret"] is read["default"]


def test_a_newer_run_replaces_the_older_of_its_name_alone(records: Records) -> None:
    for name in ("k-1", "k-10", "default", "random"):
        write_record(records.folder, make(name, fingerprint={"random": "eeeeeeeeee"}.get(name, "0123456789")))
    write_record(records.folder, make("k-1", fingerprint="ffffffffff"))
    records.drop_older([plan(Run("k-1"), "ffffffffff"), plan(Run("random"), "dddddddddd")])  # the latter is not finished
    names = sorted(path.name for path in records.folder.iterdir())
    assert names == [f"ragar-{name}.parquet" for name in ("default-0123456789", "k-1-ffffffffff", "k-10-0123456789", "random-eeeeeeeeee")]


def test_a_damaged_record_says_what_to_do(records: Records) -> None:
    write_record(records.folder, make())
    path = next(records.folder.iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"ragar-default-0123456789\.parquet .*delete it, and the same command runs it again\.$"):
        records.read([plan()])


def test_a_record_of_another_format_is_not_read(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.records.FORMAT", 0)
    write_record(records.folder, make())
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"is a record of format 0, and this code reads format 1: delete it"):
        read_record(next(records.folder.iterdir()))


def test_agreement_is_told_in_figures() -> None:
    assert describe_agreement(make(), make()).endswith("came out again, to the last bit")
    other = make()
    other.by_user["ragar"][STYLE] = {"u0003": 0.5, "u0002": 1.0}
    told = describe_agreement(make(), other)
    num_values = sum(len(users) for columns in make().by_user.values() for users in columns.values())
    assert f"1 of {num_values - 1} scores differ from those on record, 2 have no counterpart" in told
