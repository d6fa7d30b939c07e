"""From item keywords to w' and the two prompts (eq. 6). Run: pytest tests/pipeline/keywords/test_preference.py"""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from pipeline.artifacts import build_table
from pipeline.keywords.preference import (
    PreferenceBuilder,
    build_global_prompt,
    build_preferences,
    choose_keywords,
    count_keywords,
)
from pipeline.models.text_budget import TextBudget
from pipeline.rows import Rejection
from pipeline.schemas import RETRIEVED as RETRIEVED_TABLE
from tests.configs import PREFERENCE as CONFIG

KEYWORDS = {
    "i1": ["neon", "sticker", "car"],
    "i2": ["neon", "sticker", "bus", "bus"],
    "i3": ["pastel", "sticker", "cat"],
    "i4": ["pastel", "dog"],
}
CASE = {"case_id": "c1", "user_id": "u1", "split": "test", "history": ["i4", "i3", "i2", "i1"], "reference_id": "r", "truth_id": None}
RETRIEVED = [("c1", 0, "i2", 0.5), ("c1", 1, "i1", 0.3), ("c1", 2, "i3", 0.2)]


def make_builder(
    *, captions: dict[str, str] | None = None, text: str = "Truck", retrieved: list[tuple] | None = None, **changes: object
) -> PreferenceBuilder:
    captions = {"r": "a classic sticker of a truck"} if captions is None else captions
    strings = pa.schema([("item_id", pa.string()), ("caption", pa.string())])
    rows = [dict(zip(("case_id", "rank", "item_id", "weight"), row, strict=True)) for row in (RETRIEVED if retrieved is None else retrieved)]
    return PreferenceBuilder(
        dataclasses.replace(CONFIG, **changes),
        items=pa.table({"item_id": ["r", *KEYWORDS], "text": [text, *KEYWORDS]}),
        captions=pa.table({"item_id": list(captions), "caption": list(captions.values())}, schema=strings),
        keywords=pa.table({"item_id": list(KEYWORDS), "keywords": list(KEYWORDS.values())}),
        retrieved=build_table([{**row, "similarity": 0.5} for row in rows], RETRIEVED_TABLE),
    )


def test_a_long_title_gives_way_to_the_keywords_in_every_prompt() -> None:
    title = "Women Summer Boho Floral Print Dress Plus Size with Pockets"
    builder = make_builder(text=title, num_keywords=3)
    whole = builder.build(CASE)
    builder.budget = TextBudget(lambda text: len(text.replace(",", "").split()), 6)
    row = builder.build(CASE)
    for name in ("keyword_prompt", "retrieved_prompt", "global_prompt"):
        keywords = whole[name].removeprefix(f"{title}, ")
        kept = " ".join(title.split()[: 6 - len(keywords.split())])
        assert row[name] == f"{kept}, {keywords}"
    assert f"The next picture shows: {row['retrieved_prompt'].partition(',')[0]}" in row["detailed_prompt"]
    assert title not in row["detailed_prompt"]
    assert builder.num_cut == {"keyword_prompt": 1, "retrieved_prompt": 1, "global_prompt": 1}
    assert (row["keywords"], row["counts"]) == (whole["keywords"], whole["counts"])


def test_short_titles_are_what_they_were() -> None:
    builder = make_builder()
    whole = builder.build(CASE)
    builder.budget = TextBudget(lambda text: len(text.split()), 32)
    assert builder.build(CASE) == whole
    assert builder.num_cut == {"keyword_prompt": 0, "retrieved_prompt": 0, "global_prompt": 0}


def build_row(**changes: object) -> dict:
    row = make_builder(**changes).build(CASE)
    assert isinstance(row, dict), row
    return row


def test_a_keyword_counts_once_an_item_and_ties_keep_their_order() -> None:
    counted = count_keywords([(["b", "a", "b"], 1.0), (["a", "c"], 1.0), (["c"], 1.0)])
    assert [(entry.keyword, entry.count) for entry in counted] == [("a", 2.0), ("c", 2.0), ("b", 1.0)]


def test_rare_keywords_are_dropped_and_come_back_only_to_fill_up() -> None:
    counted = count_keywords([(["a", "b", "c"], 1.0), (["a", "d"], 1.0)])
    for min_keywords, expected in ((0, ["a"]), (1, ["a"]), (3, ["a", "b", "c"]), (10, ["a", "b", "c", "d"])):
        chosen = choose_keywords(counted, dataclasses.replace(CONFIG, min_keywords=min_keywords))
        assert [entry.keyword for entry in chosen] == expected


def test_only_the_top_n_are_kept() -> None:
    counted = count_keywords([(["a", "b", "c"], 1.0)] * 2)
    assert [entry.keyword for entry in choose_keywords(counted, dataclasses.replace(CONFIG, num_keywords=2))] == ["a", "b"]


def test_retrieved_counts_over_the_retrieved_items_alone() -> None:
    row = build_row()
    assert row["keywords"] == ["sticker", "neon"]
    assert row["counts"] == [3.0, 2.0]


def test_weighted_adds_up_the_weights_of_equation_5() -> None:
    row = build_row(keywords_from="weighted", min_keywords=4)
    assert row["keywords"] == ["sticker", "neon", "bus", "car"]
    assert row["counts"] == pytest.approx([1.0, 0.8, 0.5, 0.3])


def test_all_counts_over_the_whole_history_from_the_newest_item_on() -> None:
    row = build_row(keywords_from="all")
    assert row["keywords"] == ["sticker", "neon", "pastel"]
    assert row["counts"] == [3.0, 2.0, 2.0]


@pytest.mark.parametrize("source", ["retrieved", "weighted"])
def test_without_any_retrieval_the_whole_history_counts(source: str) -> None:
    builder = make_builder(keywords_from=source, retrieved=[])
    row = builder.build(CASE)
    assert isinstance(row, dict)
    assert row["counts"] == build_row(keywords_from="all")["counts"]
    alone = make_builder(keywords_from=source).build({**CASE, "case_id": "c2"})
    assert alone == Rejection("The case has no retrieved items.")  # others have some: this case was left out upstream


def test_retrieval_changes_a_prompt_only_if_its_keywords_come_from_it() -> None:
    prompts = {name: build_row(global_from=name)["global_prompt"] for name in ("all", "retrieved")}
    assert prompts == {"all": "Truck, sticker, neon, pastel", "retrieved": "Truck, sticker, neon"}
    assert {build_row(global_from=name)["keyword_prompt"] for name in prompts} == {"Truck, sticker, neon, pastel"}
    assert {build_row(global_from=name)["retrieved_prompt"] for name in prompts} == {"Truck, sticker, neon"}
    assert "neon, pastel" in build_row(keywords_from="all")["detailed_prompt"]
    assert "pastel" not in build_row()["detailed_prompt"]


def test_both_prompts_see_the_reference_unless_the_literal_reading_is_asked_for() -> None:
    row = build_row()
    assert "a classic sticker of a truck" in row["detailed_prompt"]
    text = build_row(reference_in_prompt="text")["detailed_prompt"]
    assert "Truck" in text
    assert "classic" not in text
    literal = build_row(reference_in_prompt="none", global_from="retrieved")
    assert literal["global_prompt"] == "sticker, neon"
    assert "truck" not in literal["detailed_prompt"].lower()


def test_a_keyword_that_is_the_reference_is_not_said_twice() -> None:
    assert build_global_prompt(["neon", "red car"], reference_text="Red  Car") == "Red Car, neon"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"captions": {}}, "The reference r has no caption"),
        ({"text": " ", "captions": {"r": " "}}, "The reference r has neither a text nor a caption."),
    ],
)
def test_a_case_with_an_unusable_reference_is_rejected(changes: dict, reason: str) -> None:
    outcome = make_builder(**changes).build(CASE)
    assert isinstance(outcome, Rejection)
    assert reason in outcome.reason


@pytest.mark.parametrize("shown", ["text", "text+caption"])
def test_the_caption_stands_in_for_a_reference_without_a_text(shown: str) -> None:
    row = build_row(text=" ", reference_in_prompt=shown)
    assert row["keyword_prompt"].startswith("a classic sticker of a truck, ")
    assert row["global_prompt"].startswith("a classic sticker of a truck, ")
    assert "The next picture shows: a classic sticker of a truck. Describe it" in row["detailed_prompt"]  # said once


def test_cases_without_items_or_without_keywords_are_rejected_and_the_rest_is_built() -> None:
    builder = make_builder(keywords_from="all")
    cases = [CASE, {**CASE, "case_id": "c2", "history": []}, {**CASE, "case_id": "c3", "history": ["unknown"]}]
    rows, rejected = build_preferences(pa.Table.from_pylist(cases), builder)
    assert [row["case_id"] for row in rows] == ["c1"]
    assert rejected == {"c2": "The case has no history items.", "c3": "None of the case's items has keywords."}


def test_history_items_without_keywords_are_left_out() -> None:
    case = {**CASE, "history": ["broken", "i1", "i2"]}
    row = make_builder(keywords_from="all").build(case)
    assert row["keywords"] == ["neon", "sticker"]
