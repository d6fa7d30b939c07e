"""The parser of keyword replies. Run: pytest tests/pipeline/keywords/test_parse.py"""

from __future__ import annotations

import pytest

from pipeline.keywords.parse import parse_keywords


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("pastel, sticker, hedgehog", ["pastel", "sticker", "hedgehog"]),
        ("Pastel, STICKER, Hedgehog,", ["pastel", "sticker", "hedgehog"]),
        ("neon, neon, Neon, cat", ["neon", "cat"]),
        ("red, a very long phrase indeed, cat", ["red", "cat"]),
        ("Keywords: \"red\", 'cat', dog.", ["red", "cat", "dog"]),
        ("1. red, 2. cat, 3) dog", ["red", "cat", "dog"]),
        ("- red\n- cat\n- dog", ["red", "cat", "dog"]),
        ("red, cat\nPicture: a dog, text: dog", ["red", "cat"]),
        ("red; cat ; dog", ["red", "cat", "dog"]),
        ("keywords, picture, none, cat", ["cat"]),
        ("t-rex, jack-o'-lantern, piñata, 80s", ["t-rex", "jack-o'-lantern", "piñata", "80s"]),
        ("<b>red</b>, {cat}, dog", ["cat", "dog"]),
        ("2020, 7, dog", ["dog"]),
        ("  black \t cat  ,dog", ["black cat", "dog"]),
        ("", []),
        (" , ,; ", []),
        ("I am sorry but I cannot do that for you.", []),
    ],
)
def test_a_reply_becomes_lower_case_short_distinct_keywords(reply: str, expected: list[str]) -> None:
    assert parse_keywords(reply, max_keywords=5) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("复古，碎花，连衣裙", ["复古", "碎花", "连衣裙"]),
        ("复古、碎花", ["复古", "碎花"]),
        ("关键词：红色、连衣裙", ["红色", "连衣裙"]),
        ("1、红色 2、蓝色", ["红色", "蓝色"]),
        ("「赤」、「青」", ["赤", "青"]),
        ("Ｒｅｄ，Ｂｌｕｅ；green", ["red", "blue", "green"]),
        ("أحمر، أزرق", ["أحمر", "أزرق"]),
        ("लाल, नीला", ["लाल", "नीला"]),  # ends in a vowel sign
        ("red / blue", ["red", "blue"]),
        ("red/blue/green", ["red", "blue", "green"]),
        ("black/white, dress", ["black/white", "dress"]),
        ("red | blue · green", ["red", "blue", "green"]),
        ("red - blue - green", ["red", "blue", "green"]),
        ("#red #blue", ["red", "blue"]),
        ("① red ② blue", ["red", "blue"]),
        ("1. red 2. blue 3. green", ["red", "blue", "green"]),
        ("1.red\n2.blue", ["red", "blue"]),
        ("• red • blue", ["red", "blue"]),
        ("\n\nred, dress", ["red", "dress"]),
        ("red\n\nblue dress", ["red", "blue dress"]),
        ("red, blue, and green", ["red", "blue", "green"]),
        ("red, blue, and", ["red", "blue"]),
        ("red (colour), dress (garment)", ["red", "dress"]),
    ],
)
def test_lists_are_read_whatever_separates_their_entries(reply: str, expected: list[str]) -> None:
    assert parse_keywords(reply, max_keywords=5) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Keywords: red, blue", ["red", "blue"]),
        ("**Keywords:** red, blue", ["red", "blue"]),
        ("Visual keywords (5): red, blue", ["red", "blue"]),
        ("Keywords: red\nblue\ngreen", ["red", "blue", "green"]),
        ("Sure! Here are five keywords: red, blue", ["red", "blue"]),
        ("Sure, here are the keywords:\n\n1. red\n2. blue", ["red", "blue"]),
        ("Here they are:\n- **Red**: the colour of the dress\n- **Vintage** - an old look", ["red", "vintage"]),
        ("Style: vintage\nSubject: dress", ["vintage", "dress"]),
        ("**red**, _blue_", ["red", "blue"]),
        ('["red", "blue dress"]', ["red", "blue dress"]),
        ('```json\n{"keywords": ["red", "blue"]}\n```', ["red", "blue"]),
        ('{"keywords": ["red", "blue"', ["red", "blue"]),
        ("['red', 'blue']", ["red", "blue"]),
        ("red, blue.<|im_end|>\nThese keywords describe, in short, the picture.", ["red", "blue"]),
    ],
)
def test_headings_markdown_and_json_around_a_list_are_no_keywords(reply: str, expected: list[str]) -> None:
    assert parse_keywords(reply, max_keywords=5) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<think>The picture, a dress, is red.</think>\n\nred, dress", ["red", "dress"]),
        ("<think>\n\n</think>\n\nred, dress", ["red", "dress"]),
        ("Okay, a dress, red.\n</think>\nred, dress", ["red", "dress"]),  # the template had begun the thought
        ("<think>The picture, a dress, is red", []),  # cut off
        ("<reasoning>a, b</reasoning>red", ["red"]),
        ("The dress is red and has long sleeves.", []),
        ("这是一张红色连衣裙的图片", []),
        ("N/A", []),
    ],
)
def test_thoughts_and_sentences_are_no_keywords(reply: str, expected: list[str]) -> None:
    assert parse_keywords(reply, max_keywords=5) == expected


def test_at_most_as_many_keywords_as_asked_for_are_kept() -> None:
    assert parse_keywords("a1, b1, c1, d1", max_keywords=2) == ["a1", "b1"]


def test_parsing_a_parsed_reply_changes_nothing() -> None:
    once = parse_keywords("Neon, a car, 'Cat'.", max_keywords=5)
    assert parse_keywords(", ".join(once), max_keywords=5) == once
