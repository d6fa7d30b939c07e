"""Which cases are asked about, blinded and checked. Run: python -m pytest tests/pipeline/study/test_questions.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.study.key import Key
from pipeline.study.material import Material, StudyCase, read_material
from pipeline.study.questions import Sheet, Source, build_study, list_strangers
from tests.pipeline.study.made import FACTS, METHODS, StudyRun


def read(run: StudyRun, **options: object) -> Material:
    return read_material(run.run, METHODS, **{"num_cases": 8, "history": "recent", "seed": 0} | options)


def build(material: Material, **options: object) -> tuple[Key, list[Sheet]]:
    defaults = {"num_groups": 1, "same_cases": False, "num_checks": 2, "seed": 0, "facts": FACTS}
    return build_study(material, METHODS, **defaults | options)


def list_own(key: Key, group: str = "1", task: str = "personalisation", *, check: bool = False) -> list:
    return [question for question in key.groups[group].values() if question.task == task and question.is_check == check]


def test_the_five_latest_items_of_the_history_are_shown_and_the_seed_chooses_the_users(finished: StudyRun):
    material = read(finished)
    stored = {row["case_id"]: row for row in finished.cases}
    assert len({case.case_id for case in material.cases}) == 8
    for case in material.cases:
        assert case.history == tuple(stored[case.case_id]["history"][-5:])
        assert (case.reference_id, case.text) == (stored[case.case_id]["reference_id"], f"thing {int(case.reference_id[-2:])}")
    assert read(finished).cases == material.cases != read(finished, seed=1).cases
    assert len(read(finished, num_cases=50).cases) == 12  # all that there are


def test_retrieved_histories_are_those_that_the_run_has_retrieved_most_similar_first(tmp_path: Path):
    run = StudyRun(tmp_path)
    run.write_tables()  # retrieves for the cases that there are now
    for method in METHODS:
        run.write_generated(method, {row["case_id"]: b"drawn" for row in run.cases}, None)
    retrieved = {}
    for row in run.run.retrieved.to_pylist():
        retrieved.setdefault(row["case_id"], []).append(row["item_id"])
    for case in read(run, history="retrieved").cases:
        assert list(case.history) == retrieved[case.case_id][:5]


def test_a_case_counts_only_if_it_is_held_out_has_five_items_and_a_picture_by_every_method(tmp_path: Path):
    run = StudyRun(tmp_path, num_users=5)
    run.cases[0]["split"] = "train"
    run.cases[1]["history"] = run.cases[1]["history"][:4]
    run.cases[2]["user_id"] = run.cases[3]["user_id"]  # a second case of one user
    run.write_cases()
    run.write_generated("pmg", {row["case_id"]: b"drawn" for row in run.cases[:4]}, None)
    assert [case.case_id for case in read(run).cases] == ["case-02"]
    run.write_generated("pmg", {"case-00": b"drawn"}, None)
    with pytest.raises(ValueError, match="no case of the split test has 5 history items and a picture by each of: original, pmg, ragar; "):
        read(run)


def test_a_method_without_pictures_is_named_with_what_to_do(tmp_path: Path):
    run = StudyRun(tmp_path, num_users=2)
    run.write_generated("pmg", {}, None)
    with pytest.raises(ValueError, match=r"the run has no picture by pmg; draw it first \(make exp ARGS='-S comparison=table1'"):
        read(run)


def test_both_tasks_ask_about_every_case_and_the_catalogues_own_picture_is_no_candidate_where_it_is_the_reference(finished: StudyRun):
    material = read(finished)
    key, (sheet,) = build(material)
    assert {question.case_id for question in list_own(key)} == {case.case_id for case in material.cases}
    assert all(sorted(question.methods.values()) == ["original", "pmg", "ragar"] for question in list_own(key))
    assert all(sorted(question.methods.values()) == ["pmg", "ragar"] for question in list_own(key, task="meaning"))
    assert len(list_own(key)) == len(list_own(key, task="meaning")) == 8
    for question in sheet.questions:
        own = key.groups["1"][question.id]
        assert set(question.candidates) == own.list_pictures()
        if not own.is_check:
            assert {own.methods[picture]: sheet.sources[picture] for picture in question.candidates} == {
                method: Source("drawn", own.case_id, method) for method in own.methods.values()
            }


def test_checks_have_a_right_answer_cards_in_order_and_the_reference_itself(finished: StudyRun):
    key, (sheet,) = build(read(finished))
    for check in list_own(key, check=True):
        assert [sheet.sources[picture] for picture in check.right] == [Source("card", letter) for letter in "ABC"]
    references = {row["case_id"]: row["reference_id"] for row in finished.cases}
    for check in list_own(key, task="meaning", check=True):
        assert [sheet.sources[picture] for picture in check.right] == [Source("item", references[check.case_id])]
        assert len(check.pictures) == 3
    assert len(list_own(key, check=True)) == len(list_own(key, task="meaning", check=True)) == 2
    assert not any(question.is_check for question in build(read(finished), num_checks=0)[0].groups["1"].values())


def test_a_stranger_never_looks_like_the_reference():
    cases = [StudyCase(str(number), (), f"item-{number}", "") for number in range(4)]
    items = {"item-0": b"a", "item-1": b"a", "item-2": b"b", "item-3": b"c"}
    assert set(list_strangers(cases[0], cases, items)) == {"item-2", "item-3"}
    assert list_strangers(cases[0], cases[:2], items) == []


def test_groups_have_cases_of_their_own_or_the_same_ones_and_ids_of_their_own(finished: StudyRun):
    key, sheets = build(read(finished), num_groups=2)
    first, second = ({question.case_id for question in list_own(key, group)} for group in "12")
    assert (len(first), len(second), first & second) == (4, 4, set())
    same, same_sheets = build(read(finished), num_groups=2, same_cases=True)
    assert {question.case_id for question in list_own(same, "1")} == {question.case_id for question in list_own(same, "2")}
    for one, other in (sheets, same_sheets):
        assert not {question.id for question in one.questions} & {question.id for question in other.questions}
        assert not set(one.sources) & set(other.sources)
    with pytest.raises(ValueError, match="2 cases are too few for 3 groups with cases of their own; make fewer groups, or add --same-cases"):
        build(read(finished, num_cases=2), num_groups=3)


def test_order_and_ids_tell_nothing_and_the_seed_decides_them(finished: StudyRun):
    material = read(finished)
    key, (sheet,) = build(material)
    assert [question.id for question in sheet.questions] == sorted(question.id for question in sheet.questions)
    assert all(list(question.candidates) == sorted(question.candidates) for question in sheet.questions)
    first = [key.groups["1"][question.id].methods.get(question.candidates[0]) for question in sheet.questions]
    assert len(set(first) - {None}) == 3  # no method's pictures always sort first
    assert build(material) == (key, [sheet])
    other, _ = build(material, seed=1)
    assert not set(other.groups["1"]) & set(key.groups["1"])
    assert other.study != key.study
