"""The rule of choice, and what is sound. Run: python -m pytest tests/pipeline/draw/test_choice.py"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline.draw.choice import Verdict, choose, explain_choice, find_named, judge_candidate
from pipeline.draw.looks import find_fault, look_at, measure_border
from pipeline.draw.scores import SHOWN, Scored
from tests.pipeline.draw.toy_run import draw_disc

GOOD = {
    "delta_r": 0.6,
    "delta_r_check": 0.4,
    "rank_original": 90.0,
    "rank_generated": 35.0,
    "rank_original_check": 100.0,
    "rank_generated_check": 59.0,
    "cs": 30.0,
}


def make_scored(*, caption: str = "a neon sticker of a mug", cs_original: float | None = 40.0, **changes: float | None) -> Scored:
    return Scored({name: (GOOD | changes).get(name) for name in SHOWN}, cs_original, caption)


def judge(scored: Scored, fault: str | None = None) -> Verdict:
    return judge_candidate(scored, fault=fault, reference_text="Mug, blue")


def test_a_sound_picture_that_shows_the_thing_and_is_preferred_is_used_and_the_reason_says_why() -> None:
    verdict = judge(make_scored())
    assert (verdict.keep_original, verdict.margin) == (False, 0.4)
    assert explain_choice([verdict], 0, 0) == (
        "Use it: sound; shows the thing (its caption names mug); both rankers prefer it: rank 90 to 35 (ΔR 0.60), second ranker 100 to 59 (ΔR 0.40)."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"delta_r": 0.19}, "not both rankers prefer it clearly (ΔR of 0.2 or more): rank 90 to 35 (ΔR 0.19)"),
        ({"delta_r_check": -0.3}, "second ranker 100 to 59 (ΔR -0.30)"),
        ({"delta_r": None, "delta_r_check": None}, "no ranker knows this user"),
        (
            {"caption": "a neon sticker of a cat", "cs": 19.9},
            "it does not show the thing any more: the captioner sees 'a neon sticker of a cat', and CS is 19.9",
        ),
        ({"caption": "", "cs": None}, "the captioner has no word for it, and CS is unknown against 40.0"),
        ({"caption": "", "cs": 30.0, "cs_original": None}, "CS is 30.0 against unknown"),
    ],
)
def test_the_original_is_kept_for_a_reason_that_is_said(changes: dict, words: str) -> None:
    verdict = judge(make_scored(**changes))
    assert verdict.keep_original
    assert words in explain_choice([verdict], 0, 0)
    assert explain_choice([verdict], 0, 0).startswith("Keep the original: ")


def test_a_fault_goes_before_all_else() -> None:
    verdict = judge(make_scored(delta_r=-1.0), fault="it is blank")
    assert explain_choice([verdict], 0, 0) == "Keep the original: it is blank."


def test_half_of_the_originals_cs_shows_the_thing_without_a_word_of_it() -> None:
    verdict = judge(make_scored(caption="a cat", cs=20.0))
    assert "CS is 20.0 against 40.0 of the catalogue's picture" in verdict.reason
    assert not verdict.keep_original


def test_one_ranker_alone_decides_where_there_is_no_second() -> None:
    assert not judge(make_scored(delta_r_check=None)).keep_original


def test_of_several_candidates_the_one_that_the_stricter_ranker_likes_most_is_chosen() -> None:
    verdicts = [
        judge(make_scored(delta_r=0.9, delta_r_check=0.3)),
        judge(make_scored(delta_r=0.5, delta_r_check=0.5)),
        judge(make_scored(delta_r=0.1)),
    ]
    assert choose(verdicts) == 1
    assert explain_choice(verdicts, 1, 1).startswith("Use it: the best of 3 candidates: sound;")
    assert explain_choice(verdicts, 0, 1).startswith("Candidate 2 is better; of this one: sound;")


def test_a_picture_that_can_be_shipped_goes_before_one_that_the_rankers_like_more() -> None:
    assert choose([judge(make_scored(delta_r=0.9, delta_r_check=0.9), fault="it is blank"), judge(make_scored())]) == 1


def test_of_pictures_that_cannot_be_shipped_the_sound_one_that_shows_the_thing_is_the_best() -> None:
    broken, other, unloved = judge(make_scored(), fault="it is blank"), judge(make_scored(caption="a cat", cs=1.0)), judge(make_scored(delta_r=-0.5))
    assert [choose(verdicts) for verdicts in ([broken, other, unloved], [broken, other], [broken, unloved], [unloved, unloved])] == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("caption", "reference", "word"),
    [
        ("a neon sticker of a MUG", "Mug, blue, 0.3 l", "mug"),
        ("a sticker of a picture", "the sticker and the picture", ""),
        ("a cat", "category", ""),
        ("eine Tasse", "TASSE, weiß", "tasse"),
    ],
)
def test_a_caption_names_the_thing_by_a_word_that_says_something(caption: str, reference: str, word: str) -> None:
    assert find_named(caption, reference) == word


KNOWN = {"seen": look_at(draw_disc(200)), "other": look_at(draw_disc(20)), "reference": look_at(draw_disc(100))}


def find(image: Image.Image) -> str | None:
    return find_fault(look_at(image), KNOWN, ["seen", "other"], "reference")


def test_a_picture_like_the_others_is_sound() -> None:
    assert find(draw_disc(60)) is None


def test_a_blank_picture_is_found() -> None:
    assert find(Image.new("RGB", (24, 24), (90, 90, 90))) == "it is blank"


def test_what_the_user_has_seen_already_is_found_and_the_reference_is_not_meant() -> None:
    assert find(draw_disc(202)) == "it is practically seen, which the user has already seen"
    assert find(draw_disc(101)) is None


def test_a_thing_that_runs_out_of_its_frame_is_found() -> None:
    assert find(draw_disc(60, at=24)) is None  # a corner of it: a quarter of the frame is allowed
    image = Image.new("RGB", (24, 24), "white")
    ImageDraw.Draw(image).rectangle((4, 0, 19, 23), fill="navy")
    share = 2 * 16 / 92
    assert find(image) == f"it is cut off: something takes {share:.0%} of its frame, and at most 0% in the pictures that the user knows"


def test_pictures_whose_frames_are_always_full_are_not_cut_off() -> None:
    busy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    assert find_fault(look_at(busy), {"reference": look_at(busy.rotate(90))}, [], "reference") is None
    assert find_fault(look_at(busy), {}, [], "gone") is None


def test_the_frame_is_measured_against_its_own_colour() -> None:
    dark = np.zeros((32, 32, 3), dtype=np.uint8)
    dark[4:28, 4:28] = 255
    assert measure_border(dark) == 0.0
    dark[0, :8] = 255  # 8 of the 124 pixels of the frame
    assert measure_border(dark) == pytest.approx(8 / 124)
