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
        ("red,\nblue,\ngreen", ["red", "blue", "green"]),  # the comma stands before the next line
        ("red;\nblue dress;\n", ["red", "blue dress"]),
        ("red, green and blue", ["red", "green", "blue"]),
        ("red, blue & green", ["red", "blue", "green"]),
        ("red, or blue", ["red", "blue"]),
        ("red & blue", ["red", "blue"]),
        ("AT&T, b&w", ["at&t", "b&w"]),
        ("red > blue → green", ["red", "blue", "green"]),
        ("#red#blue", ["red", "blue"]),
        ("C#, red", ["c", "red"]),
        ("★red ★blue", ["red", "blue"]),
        ("- [ ] red\n- [x] blue", ["red", "blue"]),
        ("[1] red [2] blue", ["red", "blue"]),
        ("1 - red\n2 - blue", ["red", "blue"]),
        ("a) red b) blue", ["red", "blue"]),
        ("i. red\nii. blue", ["red", "blue"]),
        ("| keyword |\n|---|\n| red |\n| blue |", ["red", "blue"]),
        ("| 1 | red |\n| 2 | blue |", ["red", "blue"]),
        ("红色 蓝色 绿色", ["红色", "蓝色", "绿色"]),
        ("빨간 드레스, 꽃무늬", ["빨간 드레스", "꽃무늬"]),  # Korean writes spaces
        ("<ul><li>red</li><li>blue</li></ul>", ["red", "blue"]),
        ("red<br>blue<br/>green", ["red", "blue", "green"]),
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
        ('{"keywords": "red, blue dress"}', ["red", "blue dress"]),
        ('["red, blue"]', ["red", "blue"]),
        ('{"red": 0.9, "blue": 0.5}', ["red", "blue"]),
        ('{"keywords": ["red", "blue"], "explanation": "It is red, and so on"}', ["red", "blue"]),
        ('Here is the JSON: {"keywords": ["red", "blue"]}\nEnjoy!', ["red", "blue"]),
        ('keywords = ["red", "blue"]', ["red", "blue"]),
        (r"\boxed{red, blue}", ["red", "blue"]),
        ("<keywords>red, blue</keywords>", ["red", "blue"]),
        ("<answer>\nred, blue\n</answer>", ["red", "blue"]),
        ("The keywords are red, blue, and green.", ["red", "blue", "green"]),
        ("Dominant colours: red, blue", ["red", "blue"]),
        ("Palabras clave: rojo, azul", ["rojo", "azul"]),
        ("Ключевые слова: красный, синий", ["красный", "синий"]),
        ("答案：红色，蓝色", ["红色", "蓝色"]),
        ("好的，以下是关键词：红色、蓝色", ["红色", "蓝色"]),
        ("以下のキーワードです：\n・赤\n・青", ["赤", "青"]),
        ("http://x.org, red", ["red"]),
        ("Blade Runner: 2049, red", ["red"]),
        ("assistant\n\nred, blue", ["red", "blue"]),
        ("<start_of_turn>model\nred, blue<end_of_turn>", ["red", "blue"]),
        ("<s> red, blue </s>", ["red", "blue"]),
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
        ("[THINK]the dress, red[/THINK]blue, cat", ["blue", "cat"]),
        ("◁think▷ hmm, red ◁/think▷ blue, cat", ["blue", "cat"]),
        ("[THINK]the dress, red", []),
        ("<seed:think>a, b</seed:think>red, blue", ["red", "blue"]),
        ("<scratchpad>a, b</scratchpad>red, blue", ["red", "blue"]),
        ("<|channel|>analysis<|message|>We need, red<|end|><|start|>assistant<|channel|>final<|message|>red, blue", ["red", "blue"]),
        ("analysisWe need, redassistantfinalred, blue", ["red", "blue"]),  # its marks left out
        ("analysisWe need keywords, red", []),
        ("analysis, red", ["analysis", "red"]),
        ("**Thinking:** a, b\n\n**Answer:** red, blue", ["red", "blue"]),
        ("Reasoning: the dress is red, long\nAnswer: red, blue", ["red", "blue"]),
        ("Reasoning: the dress is red, long", []),
        ("red, cat\n\nKeywords: dog, bird", ["red", "cat"]),  # the model goes on with an example of its own
        ("As an AI, I cannot, sorry", []),
        ("Sorry, I can't help with that, but red", []),
        ("抱歉，我无法，看到", []),
        ("no keywords", []),
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
