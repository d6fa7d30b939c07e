"""PMG's questions, its keyword lists and its choice among images. Run: `python -m pytest tests/pipeline/baselines/pmg`."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pipeline.baselines.pmg import keywords
from pipeline.baselines.pmg.config import PmgConfig
from pipeline.baselines.pmg.keywords import NO_KEYWORD, NO_PICTURE, ItemWords, name_preferences
from pipeline.baselines.pmg.prompts import build_preference_prompt, describe_picture, write_image_prompt
from pipeline.baselines.pmg.selection import compute_balance
from pipeline.models.llm import LazyLanguageModel
from tests.configs import PMG as CONFIG

WORDS = ItemWords(
    texts={"a": "Hammer", "b": "dog", "c": "sun", "d": "moon"},
    captions={"a": "a neon sticker of a hammer", "b": "a pastel sticker", "c": "a sun"},
    keywords={"a": ["neon", "hammer", "tool", "metal"]},
)


def refuse() -> object:
    raise AssertionError("nothing is left to ask")


LLM = LazyLanguageModel("r", refuse, torch.float32)
ANSWERING = LazyLanguageModel("r", lambda: object(), torch.float32)


def test_a_picture_is_its_caption_with_its_text_where_the_caption_does_not_say_it() -> None:
    assert WORDS.describe(["d", "a", "b", "c"], max_items=3) == ["a sun", "dog: a pastel sticker", "a neon sticker of a hammer"]
    assert describe_picture("moon", "") == "moon"
    assert describe_picture("", "") == ""
    assert WORDS.describe(["unknown"], max_items=3) == []


def test_target_keywords_are_the_text_and_the_first_own_keywords_that_do_not_repeat_it() -> None:
    assert WORDS.list_target("a", num_keywords=2) == ["Hammer", "neon", "tool"]
    assert WORDS.list_target("a", num_keywords=0) == ["Hammer"]
    assert WORDS.list_target("unknown", num_keywords=2) == []


def test_the_image_prompt_repeats_the_preference_by_its_weight() -> None:
    assert write_image_prompt(["dog"], ["neon", "tool"], style_weight=2) == "dog, neon, tool, neon, tool"


def test_preferences_are_asked_once_for_equal_histories_and_read_back_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def generate(_: object, questions: list[str], config: PmgConfig) -> list[str]:
        asked.extend(questions)
        return ["Neon, tool, NEON, night" for _ in questions]

    monkeypatch.setattr(keywords, "generate", generate)
    histories = {"c1": ["a", "b"], "c2": ["a", "b"], "c3": ["c"], "c4": ["unknown"]}
    named, rejected = name_preferences(histories, WORDS, CONFIG, llm=ANSWERING)
    assert named == {name: ["neon", "tool", "night"] for name in ("c1", "c2", "c3")}
    assert rejected == {"c4": NO_PICTURE}
    assert len(asked) == 2  # one batch of two questions
    assert name_preferences(histories, WORDS, CONFIG, llm=LLM) == (named, rejected)


def test_a_reply_without_keywords_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keywords, "generate", lambda _, questions, config: ["..." for _ in questions])
    assert name_preferences({"c1": ["a"]}, WORDS, CONFIG, llm=ANSWERING) == ({}, {"c1": NO_KEYWORD})


def test_attribute_mode_asks_for_each_attribute_and_then_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def generate(_: object, questions: list[str], config: PmgConfig) -> list[str]:
        asked.extend(dict.fromkeys(questions))
        return ["red, loud" if "about colour" in q else "wood, iron" if "about material" in q else "iron, glass, red" for q in questions]

    monkeypatch.setattr(keywords, "generate", generate)
    named, _ = name_preferences({"c1": ["a"]}, WORDS, replace(CONFIG, attributes=("colour", "material")), llm=ANSWERING)
    assert named == {"c1": ["iron", "red", "loud"]}  # glass was no candidate; loud fills up
    assert len(asked) == 3
    assert "Candidates: red, loud, wood, iron" in asked[-1]


def test_the_chat_question_numbers_the_pictures_from_zero() -> None:
    prompt = build_preference_prompt(["a sun", "a dog"], prompt_style="chat", num_keywords=8)
    assert "0. a sun\n1. a dog\n" in prompt
    assert "8 keywords" in prompt


def test_the_balance_is_the_weighted_sum_of_log_similarities() -> None:
    image_NV = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    score_N = compute_balance(image_NV, torch.tensor([0.0, 1.0]), torch.tensor([0.8, 0.6]), alpha=0.75)
    expected = [0.75 * math.log(1e-6) + 0.25 * math.log(80), 0.75 * math.log(80) + 0.25 * math.log(96)]
    torch.testing.assert_close(score_N, torch.tensor(expected))
