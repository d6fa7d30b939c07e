"""The page: blind, bounded, safe with hostile texts. Run: python -m pytest tests/pipeline/study/test_page.py"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.images import encode_png
from pipeline.report.figures import TITLES
from pipeline.study.material import Material, StudyCase
from pipeline.study.page import build_page, shorten
from pipeline.study.pictures import build_pictures, draw_card
from pipeline.study.questions import CARD_TEXT, CARDS, Sheet, build_study
from tests.pipeline.study.made import FACTS, METHODS, StudyRun, make_image

PICTURES = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/=]+")


def read_data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', page)[1])


def make_material(*, side: int = 40, text: str = "a thing", num_cases: int = 3, noisy: bool = False) -> Material:
    cases = [StudyCase(f"case-{n}", tuple(f"item-{n}-{k}" for k in range(5)), f"item-{n}-0", text) for n in range(num_cases)]
    colours = iter(range(10**6))

    def draw(own_side: int) -> bytes:
        colour = next(colours)
        image = Image.effect_noise((own_side, own_side), 90) if noisy else make_image(own_side, f"#{colour * 7919 % 2**24:06x}")
        return encode_png(image.convert("RGB"))

    items = {item_id: draw(side) for case in cases for item_id in case.history}
    drawn = {(case.case_id, method): draw(side + 30 * place) for case in cases for place, method in enumerate(METHODS)}
    return Material(cases, items, drawn)


def make_sheet(material: Material) -> Sheet:
    return build_study(material, METHODS, num_groups=1, same_cases=False, num_checks=1, seed=0, facts=FACTS)[1][0]


def make_page(material: Material, *, max_bytes: int = 2**24) -> str:
    sheet = make_sheet(material)
    return build_page("study", sheet, build_pictures(sheet, material, max_bytes=max_bytes))


def open_uri(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_no_method_case_user_or_item_is_named_in_the_page(made_study: Path, finished: StudyRun):
    page = PICTURES.sub("", (made_study / "pages" / "group-1.html").read_text(encoding="utf-8")).lower()
    names = {*finished.run.list_methods(), *map(str.lower, TITLES.values()), "ori", "glide", "lavit", "stable diffusion"}
    assert {"ragar", "pmg", "original", "truth", "ti", "sd"} <= names
    assert [name for name in names if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", page)] == []
    assert not re.search(r"ragar|pmg|case-\d|user-\d|item-\d|/work|/home|/tmp", page)


def test_the_page_holds_the_keys_questions_and_nothing_of_what_is_right(key, made_study: Path):
    data = read_data((made_study / "pages" / "group-1.html").read_text(encoding="utf-8"))
    assert {question["id"]: set(question["candidates"]) for question in data["questions"]} == {
        name: question.list_pictures() for name, question in key.groups["1"].items()
    }
    assert all(question.keys() == {"id", "task", "text", "context", "candidates"} for question in data["questions"])
    assert (data["study"], data["group"], len(data["questions"])) == (key.study, "1", 16)
    shown = {picture for question in data["questions"] for picture in (*question["context"], *question["candidates"])}
    assert shown == set(data["pictures"])


def test_pictures_to_be_ranked_are_of_one_size_and_format_whatever_drew_them():
    data = read_data(make_page(make_material()))
    ranked = {picture for question in data["questions"] for picture in question["candidates"]}
    assert {(open_uri(data["pictures"][picture]).size, open_uri(data["pictures"][picture]).format) for picture in ranked} == {((40, 40), "WEBP")}


def test_a_wide_picture_is_padded_and_not_stretched():
    material = make_material()
    wide = Image.new("RGB", (80, 40), "black")
    drawn = {**material.drawn, ("case-0", "ragar"): encode_png(wide)}
    sheet = make_sheet(material)
    pictures = build_pictures(sheet, Material(material.cases, material.items, drawn), max_bytes=2**24)
    own = next(picture for picture, source in sheet.sources.items() if (source.name, source.method) == ("case-0", "ragar"))
    image = open_uri(pictures.uris[own]).convert("L")
    assert [image.getpixel((20, y)) for y in (2, 20, 37)] == [255, 0, 255]


def test_a_page_that_would_be_too_large_has_smaller_pictures_and_in_the_end_a_sentence():
    material = make_material(side=150, noisy=True, num_cases=2)
    sheet = make_sheet(material)
    large = build_pictures(sheet, material, max_bytes=2**24)
    small = build_pictures(sheet, material, max_bytes=large.count_bytes() - 1)
    assert (large.side, small.side) == (150, 128)
    assert small.count_bytes() < large.count_bytes()
    with pytest.raises(ValueError, match=r"the pictures of group 1 take 0\.\d MB even at 96 px, but a page may take 0\.0; ask about fewer cases"):
        build_pictures(sheet, material, max_bytes=1000)


def test_a_broken_picture_is_named():
    material = make_material()
    broken = Material(material.cases, material.items, {**material.drawn, ("case-1", "pmg"): b"no picture"})
    with pytest.raises(ValueError, match=r"the picture of case case-1 by pmg cannot be shown \(.*\); `make verify` finds damaged files"):
        build_pictures(make_sheet(material), broken, max_bytes=2**24)


def test_cards_of_an_attention_check_can_be_told_apart():
    cards = [draw_card(letter, 64) for letter in CARDS]
    assert len({card.tobytes() for card in cards}) == 3
    assert all(card.getextrema()[0][0] < 60 for card in cards)  # something dark is on it


HOSTILE = "</script><script>alert(1)</script><!-- \u2028 & ' \" \x1b[2J \u202egnp.exe"


def test_a_hostile_text_is_data_and_nothing_else():
    page = make_page(make_material(text=HOSTILE))
    assert page.count("<script") == page.count("</script>") == 2
    assert "<!--" not in page
    assert not set(page) & set("\x1b\u202e\u2028")
    assert read_data(page)["questions"][0]["text"] in (
        shorten(HOSTILE),
        CARD_TEXT,
    )
    assert shorten(HOSTILE).startswith("</script><script>alert(1)</script><!-- & ' \" \\x1b[2J \\u202egnp.exe")


def test_a_text_is_not_endless_on_the_page():
    assert shorten("  a \n b ") == "a b"
    assert (len(shorten("x" * 500)), shorten("x" * 500)[-1]) == (160, "…")


def test_the_browser_is_told_to_run_our_script_alone_and_to_ask_nobody():
    page = make_page(make_material())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    hashed = re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '(sha256-[A-Za-z0-9+/=]+)'; base-uri 'none'; form-action 'none'",
        policy,
    )
    assert hashed
    assert not re.findall(r"(?:https?:)//[^\s\"'<>]+|\son[a-z]+=", PICTURES.sub("", page))


def test_equal_runs_give_equal_bytes():
    assert make_page(make_material()) == make_page(make_material())
