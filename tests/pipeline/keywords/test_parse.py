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


def test_at_most_as_many_keywords_as_asked_for_are_kept() -> None:
    assert parse_keywords("a1, b1, c1, d1", max_keywords=2) == ["a1", "b1"]


def test_parsing_a_parsed_reply_changes_nothing() -> None:
    once = parse_keywords("Neon, a car, 'Cat'.", max_keywords=5)
    assert parse_keywords(", ".join(once), max_keywords=5) == once
