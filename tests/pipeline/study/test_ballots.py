"""Ballots that anybody may have written: each counts or has one reason. Run: python -m pytest tests/pipeline/study/test_ballots.py"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.study.ballots import MAX_BYTES, MAX_REASON, Returned, read_ballots
from pipeline.study.key import Key
from tests.pipeline.study.made import fill_in, rank_by_method, write_ballot

TASTE = rank_by_method("ragar", "pmg", "original")


def make(key: Key, participant: str = "p-1", **options: Any) -> dict[str, Any]:
    return fill_in(key, TASTE, participant=participant, **options)


def read(folder: Path, key: Key, *, max_failed: int = 1) -> Returned:
    return read_ballots([folder], key, max_failed=max_failed)


def read_reason(tmp_path: Path, key: Key, content: object) -> str:
    """Write a good ballot and a bad one, and return why the bad one does not count."""
    write_ballot(tmp_path / "ballots", make(key, "good"))
    write_ballot(tmp_path / "ballots", content, "bad.json")
    returned = read(tmp_path / "ballots", key)
    assert [ballot.participant for ballot in returned.counted] == ["good"]
    (refused,) = returned.refused
    assert refused.file == "bad.json"
    return refused.reason


def test_good_ballots_count_in_the_order_of_their_codes(tmp_path: Path, key: Key):
    for participant in ("zoe", "Bob", "anna"):
        write_ballot(tmp_path / "ballots", make(key, participant))
    write_ballot(tmp_path / "ballots", "no ballot", "notes.txt")  # of a folder the JSON files are read
    returned = read(tmp_path / "ballots", key)
    assert [ballot.participant for ballot in returned.counted] == ["anna", "Bob", "zoe"]
    assert (returned.refused, returned.inattentive) == ([], [])


def change(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda ballot: ballot.update(fields)


def change_answer(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda ballot: ballot["answers"][0].update(fields)


def repeat_answer(ballot: dict[str, Any]) -> None:
    ballot["answers"][1] = ballot["answers"][0]


def repeat_picture(ballot: dict[str, Any]) -> None:
    order = ballot["answers"][0]["order"]
    ballot["answers"][0]["order"] = [order[0]] * len(order)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change(format="study-ballot/2"), "format is 'study-ballot/2', but it must be 'study-ballot/1'."),
        (change(study="0123456789ab"), "it is of the study '0123456789ab', but the key is of "),
        (change(group="7"), "the study has no group '7'; it has: 1."),
        (change(participant=" \t "), "the participant's code is empty."),
        (change(participant="x" * 41), "the ballot.participant is 'xxxxxxxxxxx"),
        (change(participant=5), "the ballot.participant is 5, but it must be a valid string."),
        (change(admin=True), "the ballot.admin is unknown."),
        (lambda ballot: ballot.pop("ballot"), "the ballot.ballot is missing."),
        (change(answers=[]), "it answers 0 of 16 questions."),
        (lambda ballot: ballot["answers"].pop(), "it answers 15 of 16 questions."),
        (change(answers=[5]), "the ballot.answers[0] is 5, but it must be an object."),
        (change(answers="all"), "the ballot.answers is 'all', but it must be a list."),
        (change_answer(question="000000000000"), "it answers the question '000000000000', which its page does not ask."),
        (repeat_answer, " twice."),
        (repeat_picture, ": order must hold each of its "),
        (change_answer(order=["0" * 12] * 3), ": order must hold each of its "),
        (change_answer(order=[]), "the ballot.answers[0].order is [], but it must be a list of 1 or more."),
        (change_answer(shown=["<script>"]), ": shown must hold each of its "),
        (change_answer(order=[1, 2, 3]), "the ballot.answers[0].order[0] is 1, but it must be a valid string."),
        (change_answer(seconds=-1), "the ballot.answers[0].seconds is -1, but it must be >= 0."),
        (change_answer(seconds=1e300), "the ballot.answers[0].seconds is 1e+300, but it must be <= 1e+06."),
        (change_answer(seconds=float("nan")), "the ballot.answers[0].seconds is "),
        (change_answer(seconds="6"), "the ballot.answers[0].seconds is '6', but it must be a valid number."),
        (change_answer(rank=1), "the ballot.answers[0].rank is unknown."),
    ],
)
def test_a_ballot_that_is_not_as_the_page_writes_it_has_a_reason(tmp_path: Path, key: Key, spoil: Callable, reason: str):
    ballot = make(key)
    spoil(ballot)
    assert reason in read_reason(tmp_path, key, ballot)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "bad.json is not a readable JSON file (Expecting value"),
        ("{", "bad.json is not a readable JSON file ("),
        ("[]", "the ballot is [], but it must be an object."),
        ("null", "the ballot is None, but it must be an object."),
        ('"' + "x" * 3000 + '"', "the ballot is 'xxxxxxx"),
        ("[" * 200_000, "bad.json is not a readable JSON file (it is nested too deeply)."),
        (" " * (MAX_BYTES + 1), f"it is larger than the {MAX_BYTES:,} bytes that a ballot may have."),
    ],
)
def test_a_file_that_is_no_ballot_has_a_short_reason(tmp_path: Path, key: Key, text: str, reason: str):
    found = read_reason(tmp_path, key, text)
    assert found.startswith(reason)
    assert len(found) <= MAX_REASON


def test_a_hostile_code_cannot_steer_a_terminal(tmp_path: Path, key: Key):
    reason = read_reason(tmp_path, key, {**make(key), "study": "\x1b[2J\u202e"})
    assert reason.startswith(r"it is of the study '\x1b[2J\u202e', but")


def test_a_lone_surrogate_is_a_reason_and_no_crash(tmp_path: Path, key: Key):
    assert read_reason(tmp_path, key, {**make(key), "participant": "\ud800"})


def test_bytes_that_are_no_text_and_what_is_no_file_are_named(tmp_path: Path, key: Key):
    folder = tmp_path / "ballots"
    write_ballot(folder, make(key))
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "gone.json").symlink_to("nowhere")
    returned = read(folder, key)
    assert [row.file for row in returned.refused] == ["bytes.json", "folder.json", "gone.json", "pipe.json"]
    assert {row.reason for row in returned.refused[1:]} == {"it is no file."}
    assert len(returned.counted) == 1


def test_a_copy_is_named_and_counts_once(tmp_path: Path, key: Key):
    ballot = make(key, "p-1")
    write_ballot(tmp_path / "ballots", ballot, "a.json")
    write_ballot(tmp_path / "ballots", {**ballot, "participant": "P-1 "}, "b.json")
    returned = read(tmp_path / "ballots", key)
    assert len(returned.counted) == 1
    assert [(row.file, row.reason) for row in returned.refused] == [("b.json", "it is a copy of a.json.")]


def test_ballots_that_contradict_each_other_are_all_named_and_none_counts(tmp_path: Path, key: Key):
    first = make(key, "p-1")
    changed = copy.deepcopy(first)
    changed["answers"][0]["order"].reverse()
    write_ballot(tmp_path / "ballots", first, "a.json")
    write_ballot(tmp_path / "ballots", changed, "b.json")
    write_ballot(tmp_path / "ballots", make(key, "p-2"), "c.json")
    returned = read(tmp_path / "ballots", key)
    assert [ballot.participant for ballot in returned.counted] == ["p-2"]
    reason = "one person has saved different answers under the code 'p-1': a.json, b.json; leave only the right file there."
    assert [(row.file, row.reason) for row in returned.refused] == [("a.json", reason), ("b.json", reason)]

    write_ballot(tmp_path / "ballots", {**changed, "ballot": "another"}, "b.json")
    assert read(tmp_path / "ballots", key).refused[0].reason.startswith("two browsers have saved different answers under the code 'p-1': a.json")


def test_who_fails_the_checks_is_set_aside_whatever_the_other_answers_are(tmp_path: Path, key: Key):
    write_ballot(tmp_path / "ballots", make(key, "reads"))
    write_ballot(tmp_path / "ballots", make(key, "sleeps", passes_checks=False))
    slips = make(key, "slips")
    check = next(answer for answer in slips["answers"] if key.groups["1"][answer["question"]].is_check)
    check["order"] = check["order"][::-1]
    write_ballot(tmp_path / "ballots", slips)
    returned = read(tmp_path / "ballots", key)
    assert [ballot.participant for ballot in returned.counted] == ["reads", "slips"]
    assert [row.reason for row in returned.inattentive] == ["'sleeps' fails 4 of 4 attention checks; 1 may be failed."]
    assert [ballot.participant for ballot in read(tmp_path / "ballots", key, max_failed=0).counted] == ["reads"]


def test_in_a_meaning_check_the_order_behind_the_first_place_does_not_matter(tmp_path: Path, key: Key):
    ballot = make(key)
    for answer in ballot["answers"]:
        if len(key.groups["1"][answer["question"]].right) == 1:
            answer["order"] = [answer["order"][0], *answer["order"][:0:-1]]
    write_ballot(tmp_path / "ballots", ballot)
    assert len(read(tmp_path / "ballots", key, max_failed=0).counted) == 1


def test_paths_without_ballots_are_one_sentence(tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="nowhere does not exist; put the ballots there, or name the files or folders"):
        read(tmp_path / "nowhere", key)
    with pytest.raises(ValueError, match=r"there is no ballot \(\*\.json\) in "):
        read(tmp_path, key)
    for number in range(3):
        write_ballot(tmp_path / "ballots", make(key, f"p-{number}"))
    monkeypatch.setattr("pipeline.study.ballots.MAX_BALLOTS", 2)
    with pytest.raises(ValueError, match="there are 3 ballots, but at most 2 are read"):
        read(tmp_path / "ballots", key)
