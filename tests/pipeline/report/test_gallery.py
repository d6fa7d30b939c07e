"""A user's card. Run: python -m pytest tests/pipeline/report/test_gallery.py -q"""

from __future__ import annotations

from dataclasses import replace

from pipeline.report.gallery import Card, build_card
from tests.pipeline.report.made import make_inputs, make_png


def build(drawn: dict[str, bytes], *, n: int = 0) -> Card:
    inputs = make_inputs()
    case = inputs.shown.cases[n]
    shown = replace(inputs.shown, drawn={method: {case["case_id"]: data} for method, data in drawn.items()})
    return build_card(replace(inputs, shown=shown), case, number=1)


def test_reference_main_method_and_truth_stand_side_by_side_before_the_others() -> None:
    card = build({method: make_png(n) for n, method in enumerate(("sd", "ragar", "keywords", "original", "truth"), start=20)})
    assert [(tile.name, tile.role) for tile in card.leading] == [("reference", "reference"), ("RAGAR", "main"), ("truth", "truth")]
    assert [tile.name for tile in card.others] == ["SD", "SD + keywords"]


def test_without_a_truth_none_is_shown() -> None:
    assert [tile.name for tile in build({"ragar": make_png(20)}, n=2).leading] == ["reference", "RAGAR"]


def test_one_picture_drawn_by_two_methods_is_shown_once_with_both_names() -> None:
    card = build({"sd": make_png(20), "ragar": make_png(21), "keywords": make_png(22), "global": make_png(22)})
    assert [tile.name for tile in card.others] == ["SD", "SD + keywords = global"]
    with_main = build({"sd": make_png(21), "ragar": make_png(21), "keywords": make_png(22)})
    assert [(tile.name, tile.role) for tile in with_main.leading][1] == ("RAGAR = SD", "main")
    assert [tile.name for tile in with_main.others] == ["SD + keywords"]


def test_broken_pictures_are_not_taken_for_the_same() -> None:
    assert [tile.name for tile in build({"ragar": make_png(20), "sd": b"", "keywords": b""}).others] == ["SD", "SD + keywords"]


def test_a_drawn_picture_says_in_a_sentence_who_drew_it_and_its_scores() -> None:
    card = build({"ragar": make_png(20)})
    assert card.leading[1].picture.title == "RAGAR drew this: Style 100.0%, Concept 0.0%."
    assert card.leading[0].picture.title == "“word0”, the item i0word, in the style classic."


def test_a_user_who_is_not_held_out_says_so() -> None:
    assert build({"ragar": make_png(20)}, n=3).note == "drawn but not measured: a user of the split train"
    assert build({"ragar": make_png(20)}).note == ""
