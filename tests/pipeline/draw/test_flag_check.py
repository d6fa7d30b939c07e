"""How often the flag is right, by hand. Run: python -m pytest tests/pipeline/draw/test_flag_check.py"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import pipeline.draw.flag_check
from pipeline.data.images import encode_png
from pipeline.draw.choice import Verdict
from pipeline.draw.flag_check import count, judge_pictures, measure_flag
from pipeline.models.judge import Verdict as Seen
from pipeline.params import read_section
from pipeline.schemas import LABELS
from tests.pipeline.draw.toy_run import ToyRun, draw_disc, stand_in_models


def make_judged(*used: bool) -> list[SimpleNamespace]:
    return [SimpleNamespace(verdict=Verdict(True, True, use, 0.5 if use else 0.0, "")) for use in used]


def test_the_flag_is_right_of_right_pictures_to_use_and_of_wrong_ones_to_keep_out() -> None:
    row = count("sd", make_judged(True, True, True, False, False), [True, True, False, True, False])
    assert row == {
        "method": "sd",
        "pictures": 5,
        "right pictures": 3,
        "advised to use": 3,
        "flag is right": 0.6,
        "of those to use, right": pytest.approx(2 / 3),
        "of the right, to use": pytest.approx(2 / 3),
        "of the wrong, kept out": 0.5,
    }


def test_a_picture_is_right_if_style_and_thing_are() -> None:
    seen = [Seen("neon", ("cat", "mug")), Seen("sepia", ("mug",)), Seen("neon", ("cat",))]
    judge = SimpleNamespace(name_images=lambda images: seen)
    judged = [SimpleNamespace(picture=encode_png(draw_disc(1)))] * 3
    assert judge_pictures(judge, judged, [("neon", "mug")] * 3) == [True, False, False]


def test_a_data_set_that_knows_no_answers_cannot_say(toy: ToyRun) -> None:
    with pytest.raises(ValueError, match="nobody knows what the users of the split val wanted to see"):
        measure_flag(toy.run, "val", ["sd"])


def test_the_judge_of_the_data_set_looks_at_the_pictures(toy: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_models(monkeypatch)
    for case in toy.cases:
        case["truth_id"] = case["reference_id"]
    toy.write_tables()
    toy.write("evaluation", "labels", [{"item_id": row["item_id"], "style": "neon", "concept": "mug"} for row in toy.items], LABELS, None)
    loaded: list[str] = []

    def load_judge(reference: str) -> SimpleNamespace:
        loaded.append(reference)
        return SimpleNamespace(name_images=lambda images: [Seen("sepia", ("mug",)), *[Seen("neon", ("mug",))] * (len(images) - 1)])

    monkeypatch.setattr(pipeline.draw.flag_check, "load_judge", load_judge)
    rows = measure_flag(toy.run, "test", ["sd"])
    assert loaded == [read_section(toy.run.params, "models.judge")["stylemoji"]]
    assert [(row["method"], row["pictures"], row["right pictures"]) for row in rows] == [("sd", 3, 2), ("all", 3, 2)]
