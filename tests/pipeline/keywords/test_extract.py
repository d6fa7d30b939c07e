"""Keywords of items, with a scripted model and with a tiny Qwen2. Run: pytest tests/pipeline/keywords/test_extract.py"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from pipeline.keywords.extract import NO_CAPTION, KeywordsConfig, extract_keywords
from pipeline.keywords.prompts import EXAMPLES, KEYWORD_SYSTEM, build_detailed_prompt, build_examples, build_keyword_prompt, flatten_text
from pipeline.models.decoding import DecodeRules
from pipeline.models.llm import LazyLanguageModel, load_language_model
from pipeline.rows import MapResult
from tests.configs import KEYWORDS as CONFIG
from tests.tiny_models import save_tiny_qwen2

ITEMS = pa.table({"item_id": ["a", "b", "c", "d"], "text": ["dog", " ", "cat", "cow"]})
CAPTIONS = pa.table({"item_id": ["a", "b", "d"], "caption": ["a red dog", "a red hat", "a red\ncow"]})


class ScriptedModel:
    """Answers every prompt with a given reply, and remembers what it was asked."""

    def __init__(self, reply: str) -> None:
        self.reply = reply
        self.asked: list[list[str]] = []

    def generate(self, prompts: Sequence[str], *, prefix: str, rules: DecodeRules) -> list[str]:
        self.asked.append(list(prompts))
        assert prefix == build_examples()
        assert (rules.max_parts, rules.distinct_parts) == (5, True)
        return [self.reply] * len(prompts)


def make_lazy(model: object, revision: str = "1") -> LazyLanguageModel:
    return LazyLanguageModel(revision, lambda: model, torch.float32)


def extract(items: pa.Table, captions: pa.Table, config: KeywordsConfig, *, llm: LazyLanguageModel) -> MapResult:
    with extract_keywords(items, captions, config, llm=llm) as result:
        return result.load()


def test_every_item_is_named_or_rejected_with_a_reason() -> None:
    result = extract(ITEMS, CAPTIONS, CONFIG, llm=make_lazy(ScriptedModel("Red, dog, red, dog")))
    assert result.values == {key: {"keywords": ["red", "dog"]} for key in "abd"}
    assert result.rejected == {"c": NO_CAPTION}


def test_a_reply_without_a_keyword_is_a_rejection_that_quotes_it() -> None:
    result = extract(ITEMS, CAPTIONS, CONFIG, llm=make_lazy(ScriptedModel("...")))
    assert "holds no keyword: '...'" in result.rejected["a"]


class RefusingModel(ScriptedModel):
    """Has nothing to say about prompts with an item's text."""

    def generate(self, prompts: Sequence[str], *, prefix: str, rules: DecodeRules) -> list[str]:
        replies = super().generate(prompts, prefix=prefix, rules=rules)
        return ["" if ", text:" in prompt else reply for prompt, reply in zip(prompts, replies, strict=True)]


def test_where_a_title_leaves_the_model_speechless_it_is_asked_by_the_caption_alone() -> None:
    model = RefusingModel("red, dress")
    result = extract(ITEMS, CAPTIONS, CONFIG, llm=make_lazy(model))
    assert result.values == {item_id: {"keywords": ["red", "dress"]} for item_id in "abd"}
    assert result.rejected == {"c": NO_CAPTION}
    assert {prompt for batch in model.asked for prompt in batch} >= {"Picture: a red dog\nKeywords:", "Picture: a red cow\nKeywords:"}
    assert {len(batch) for batch in model.asked} == {CONFIG.batch_size}


def test_a_thought_that_was_cut_off_is_a_rejection_that_says_what_to_raise() -> None:
    result = extract(ITEMS, CAPTIONS, CONFIG, llm=make_lazy(ScriptedModel("<think>a dog, red")))
    assert "'<think>a dog, red' (a thought that was cut off: raise keywords.max_new_tokens" in result.rejected["a"]


def test_a_long_title_is_shortened_at_a_word_before_the_model_reads_it() -> None:
    title = "summer dress " * 30
    prompt = build_keyword_prompt("a dress", title, prompt_style="few_shot", num_keywords=5)
    assert prompt == f"Picture: a dress, text: {' '.join(['summer dress'] * 9)}\nKeywords:"
    assert flatten_text("x" * 500) == "x" * 400


def test_a_chat_models_list_may_have_many_lines() -> None:
    class ChatModel(ScriptedModel):
        def split_chat(self, system: str, user: str) -> tuple[str, str]:
            return f"{system}\n", f"{user}\n"

        def generate(self, prompts: Sequence[str], *, prefix: str, rules: DecodeRules) -> list[str]:
            return [rules.cut(self.reply)] * len(prompts)

    result = extract(ITEMS, CAPTIONS, replace(CONFIG, prompt_style="chat"), llm=make_lazy(ChatModel("Here they are:\n1. red\n2. dog")))
    assert result.values["a"] == {"keywords": ["red", "dog"]}


def test_the_prompt_holds_caption_and_text_on_one_line() -> None:
    model = ScriptedModel("red")
    extract(ITEMS, CAPTIONS, CONFIG, llm=make_lazy(model))
    asked = {prompt for batch in model.asked for prompt in batch}
    assert "Picture: a red cow, text: cow\nKeywords:" in asked
    assert "Picture: a red hat, text: a red hat\nKeywords:" in asked  # it has no text of its own
    assert all(len(batch) == CONFIG.batch_size for batch in model.asked)


def test_a_title_in_another_language_is_kept_and_asked_for_in_english() -> None:
    title = "秋季新款,连衣裙"
    few_shot, chat = (build_keyword_prompt("a dress", title, prompt_style=style, num_keywords=5) for style in ("few_shot", "chat"))
    assert few_shot == f"Picture: a dress, text: {title}\nKeywords in English:"
    assert title in chat
    assert "English keywords only" in KEYWORD_SYSTEM
    assert "Translate other languages into English" in KEYWORD_SYSTEM


def test_known_items_are_not_asked_again_and_other_weights_ask_again() -> None:
    def refuse() -> ScriptedModel:
        raise AssertionError("loaded")

    first = extract(ITEMS, CAPTIONS, CONFIG, llm=make_lazy(ScriptedModel("red")))
    second = extract(ITEMS, CAPTIONS, CONFIG, llm=LazyLanguageModel("1", refuse, torch.float32))
    assert (first.values, first.rejected) == (second.values, second.rejected)
    assert second.summary.computed == 0
    assert extract(ITEMS, CAPTIONS, CONFIG, llm=make_lazy(ScriptedModel("blue"), "2")).values["a"] == {"keywords": ["blue"]}


@pytest.mark.parametrize("prompt_style", ["chat", "few_shot"])
def test_a_real_model_of_the_papers_kind_runs_in_both_styles(tmp_path: Path, prompt_style: str) -> None:
    model = load_language_model(str(save_tiny_qwen2(tmp_path / "qwen2")))
    config = replace(CONFIG, prompt_style=prompt_style, num_keywords=2, max_new_tokens=4)
    result = extract(ITEMS, CAPTIONS, config, llm=make_lazy(model))
    assert set(result.values) | set(result.rejected) == {"a", "b", "c", "d"}
    assert result.rejected["c"] == NO_CAPTION


def test_worked_examples_have_the_shape_of_the_question() -> None:
    caption, text, keywords = EXAMPLES[0]
    question = build_keyword_prompt(caption, text, prompt_style="few_shot", num_keywords=5)
    assert f"{question} {', '.join(keywords)}\n\n" in build_examples()
    assert all(len(keywords) == CONFIG.num_keywords for _, _, keywords in EXAMPLES)


def test_worked_examples_show_none_of_our_styles_and_concepts() -> None:
    from pipeline.data.openmoji import STYLES, read_concepts

    names = {concept.name.lower() for concept in read_concepts()}
    for caption, text, keywords in EXAMPLES:
        assert not {*STYLES} & {*caption.split(), *keywords}
        assert text not in names


def test_the_detailed_prompt_holds_the_keywords_and_the_reference_only_if_given() -> None:
    full = build_detailed_prompt(["neon", "car"], reference_text="dog", reference_caption="a classic\nsticker of a dog")
    assert "neon, car" in full
    assert "dog, a classic sticker of a dog" in full
    literal = build_detailed_prompt(["neon", "car"], reference_text=None, reference_caption=None)
    assert "neon, car" in literal
    assert "dog" not in literal
