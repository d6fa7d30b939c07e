"""What was left out, by cause. Run: python -m pytest tests/pipeline/report/test_left_out.py"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pipeline.artifacts import build_table, write_table
from pipeline.embedding import NO_TEXT
from pipeline.json_files import write_json
from pipeline.keywords.extract import NO_CAPTION
from pipeline.report.inputs import CutPrompts, LeftOut, read_left_out
from pipeline.report.left_out import CaseOf, Cause, find_causes
from pipeline.report.page import build_page
from pipeline.schemas import ITEMS
from tests.pipeline.report.made import CONFIG, Reader, make_inputs

CASES = {f"k{n}": CaseOf(f"u{n}", f"i{n}") for n in range(6)}
DAMAGED = "The PNG image is damaged or truncated (bad block)."


def reject(stage: str, key: str, reason: str) -> dict[str, str]:
    return {"stage": stage, "row_key": key, "reason": reason}


def find(*rows: dict[str, str], missing: dict[str, dict[str, str]] | None = None) -> list[Cause]:
    return find_causes(rows, cases=CASES, missing=missing or {})


def test_what_follows_from_a_cause_is_counted_with_it_and_not_again() -> None:
    (cause,) = find(
        reject("preference", "k1", "The reference i1 has no caption (captioning rejected its image)."),
        reject("retrieval", "k1", "The reference item i1 has no embedding."),
        reject("keywords", "i1", NO_CAPTION),
        reject("embedding", "i1", DAMAGED),
        reject("captioning", "i1", DAMAGED),
        reject("generation@original", "k1", f"The image of i1 cannot be used: {DAMAGED}"),
        reject("generation@sd", "k1", "The reference has neither a text nor a caption."),
    )
    assert (cause.stage, cause.title, cause.reason) == ("captioning", "1 item", DAMAGED)
    assert cause.consequences == {"embedding": 1, "keywords": 1, "retrieval": 1, "preference": 1, "generation": 2}
    assert cause.follows[-1] == "2 pictures of the stage generation"


def test_a_method_that_lacks_what_its_training_rejected_is_a_consequence_and_another_methods_reject_is_none() -> None:
    ti, sd = find(
        reject("ti", "u2", "The user has no readable image."),
        reject("generation@ti", "k2", "No pseudo-word was learned for this user."),
        reject("generation@sd", "k2", "The drawn image is not finite."),
    )
    assert (ti.title, ti.consequences, sd.title) == ("1 user", {"generation": 1}, "1 picture")


def test_a_case_for_which_nothing_was_retrieved_is_the_cause_of_what_the_baselines_lack() -> None:
    (cause,) = find(
        reject("retrieval", "k2", "The history has 4 items, and all of them rank among the first 5."),
        reject("ti_retrieved", "k2", "None of the case's retrieved images can be read."),
        reject("generation@ti_retrieved", "k2", "No pseudo-word was learned for this case."),
        reject("pmg_retrieved", "k2", "The case has no retrieved item."),
        reject("generation@pmg_retrieved", "k2", "The language model named no keywords of this user's taste."),
    )
    assert (cause.stage, cause.title) == ("retrieval", "1 case")
    assert cause.consequences == {"ti_retrieved": 1, "pmg_retrieved": 1, "generation": 2}


def test_a_picture_that_the_evaluation_ranker_cannot_read_either_is_counted_once() -> None:
    (cause,) = find(reject("ranker_check", "i1", DAMAGED), reject("embedding", "i1", DAMAGED))
    assert (cause.stage, cause.consequences) == ("embedding", {"ranker_check": 1})
    (own,) = find(reject("ranker_check", "i2", "The image vector is not finite or has no length."))
    assert own.title == "1 item"


def test_a_reason_of_its_own_is_a_cause_even_if_the_item_was_rejected_before() -> None:
    text, image = find(reject("embedding", "i1", NO_TEXT), reject("generation@global", "k1", "The drawn image is not finite."))
    assert (text.consequences, image.title) == ({}, "1 picture")


def test_reasons_that_differ_in_names_files_and_numbers_alone_are_one_cause() -> None:
    first, second = find(
        reject("dataset", "i1", "The image a/1.png is missing: there is no such file."),
        reject("dataset", "i2", "The image b/2 2.jpg is missing: there is no such file."),
        reject("captioning", "i3", "The image has 70,000,000 pixels, more than the allowed 50,000,000."),
        reject("captioning", "i4", "The image has 60,000,000 pixels, more than the allowed 50,000,000."),
        missing={"i1": {"reason": "there is no such file."}, "i2": {"reason": "there is no such file."}},
    )
    assert (first.title, first.reason) == ("2 items", "there is no such file.")
    assert [example.reason for example in first.examples] == [
        "The image a/1.png is missing: there is no such file.",
        "The image b/2 2.jpg is missing: there is no such file.",
    ]
    assert (second.title, second.reason) == ("2 items", "The image has … pixels, more than the allowed ….")


def test_an_item_that_is_called_like_a_word_of_the_reason_is_of_the_same_cause() -> None:
    reason = "The image is blank: practically all of its pixels have one colour."
    rows = [reject("dataset", name, f"The image images/{name}.png is missing: {reason}") for name in ("blank", "white")]
    assert [(cause.title, cause.reason) for cause in find(*rows, missing={name: {"reason": reason} for name in ("blank", "white")})] == [
        ("2 items", reason)
    ]


def test_the_causes_come_in_the_order_of_the_stages_the_most_frequent_of_a_stage_first_with_three_examples_each() -> None:
    rows = [reject("keywords", "i9", "The language model's reply holds no keyword: '…'.")] + [
        reject("keywords", f"i{n}", "The thought was cut off.") for n in range(5)
    ]
    causes = find(*rows, reject("evaluation", "sd/k3", "The image is empty."), reject("captioning", "i7", DAMAGED))
    assert [(cause.stage, cause.count, len(cause.examples)) for cause in causes] == [
        ("captioning", 1, 1),
        ("keywords", 5, 3),
        ("keywords", 1, 1),
        ("evaluation", 1, 1),
    ]
    assert causes[-1].examples[0].item_id == "i3"  # the reference of the case


def test_a_rejected_item_whose_image_can_be_decoded_is_shown_and_strings_are_escaped_and_bounded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (400, 400), (200, 30, 30)).save(buffer, format="PNG")
    images = {"i1": buffer.getvalue(), "i2": b"broken"}
    rows = [
        {"item_id": item_id, "image": {"bytes": data, "path": None}, "text": "<b>dress</b>", "category": "", "image_sha256": ""}
        for item_id, data in images.items()
    ]
    write_table(tmp_path / "items.parquet", build_table(rows, ITEMS), ITEMS, provenance={})
    rejected = [reject("keywords", "i1", "<script>" + "x" * 10_000), reject("captioning", "i2", DAMAGED)]
    write_json(tmp_path / "preference.json", {"num_cases": 9, "num_cut": {"global_prompt": 4, "keyword_prompt": 0}})
    write_json(tmp_path / "sd" / "metrics.json", {"num_images": 6, "num_cut": 2})
    write_json(tmp_path / "truth" / "metrics.json", {"num_images": 6})
    left_out = read_left_out(
        tmp_path / "items.parquet",
        rejected,
        cases=[],
        missing=None,
        prompts=tmp_path / "preference.json",
        drawn=[tmp_path / name / "metrics.json" for name in ("sd", "truth")],
        limit=5,
    )
    assert left_out.images == images
    assert left_out.prompts == [CutPrompts("global prompt", 4, 9), CutPrompts("keyword prompt", 0, 9), CutPrompts("prompt of sd", 2, 6)]
    inputs = replace(make_inputs(), rejected=rejected, left_out=left_out)
    section = build_page(inputs, CONFIG).partition('<section id="rejected">')[2].partition("</section>")[0]
    tags = [(tag, attributes.get("class")) for tag, attributes in Reader(section).tags]
    assert tags.count(("img", "pic")) == 1
    assert tags.count(("span", "pic broken")) == 1
    assert "&lt;b&gt;dress&lt;/b&gt;" in section
    assert "<script>" not in section
    assert "x" * 301 not in section
    text = Reader(section).text
    assert "global prompt4 of 9" in text
    assert "prompt of sd2 of 6" in text
    assert "keyword prompt" not in text  # none of them was shortened


def test_more_causes_than_are_listed_are_counted() -> None:
    rejected = [reject("keywords", f"i{n}", f"Reason {'abcdef'[n]}.") for n in range(6)]
    page = build_page(replace(make_inputs(), rejected=rejected, left_out=LeftOut()), replace(CONFIG, num_rejected=2))
    text = Reader(page).text
    assert "Reason b." in text
    assert "Reason c." not in text
    assert "and 4 more causes, of 4 rows" in text


def test_users_that_the_data_set_has_left_out_are_counted_and_named() -> None:
    few = "The user is left out: besides the reference {} items have a readable image, fewer than dataset.min_history, 3."
    (cause,) = find(reject("dataset", "user/anna", few.format(2)), reject("dataset", "user/3", few.format(0)))
    assert (cause.title, sorted(example.key for example in cause.examples)) == ("2 users", ["3", "anna"])
    assert cause.reason == few.format("…").replace("history, 3", "history, …")
