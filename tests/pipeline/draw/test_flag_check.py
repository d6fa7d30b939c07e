"""How often the flag is right, by hand. Run: python -m pytest tests/pipeline/draw/test_flag_check.py"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.data.images import encode_png
from pipeline.draw.choice import Verdict
from pipeline.draw.flag_check import count, judge_pictures, measure_flag
from pipeline.models.judge import Verdict as Seen
from tests.pipeline.draw.toy_run import ToyRun, draw_disc


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
