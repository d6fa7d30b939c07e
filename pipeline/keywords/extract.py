"""Keywords w_i of every item: p_k filled with caption and text, the language model's reply, the parser (eq. 6).

Departures: (1) an item without caption is rejected with the reason; without a text of its own it is called by its caption. (2) Where the
reply holds no keyword, as small models' replies to titles of shops sometimes do, the model is asked once more by the caption alone; an item
without keywords then is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.columns import map_columns
from pipeline.config import Count, RowMapConfig, config_dataclass
from pipeline.keywords.parse import parse_keywords, strip_thought
from pipeline.keywords.prompts import PromptStyle, build_keyword_prompt, wrap_keyword_prompt
from pipeline.ledger import open_ledger
from pipeline.rows import MapResult, Rejection, Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.llm import LanguageModel, LazyLanguageModel

COLUMNS = pa.schema([pa.field("keywords", pa.list_(pa.string()))])
PLACEHOLDER = "Keywords:"
THOUGHT_ONLY = " (a thought that was cut off: raise keywords.max_new_tokens, or choose a model that does not think aloud)"
NOT_ASKED = Rejection("This is not asked.")
NO_CAPTION = "The item has no caption (captioning rejected its image)."


@config_dataclass
class KeywordsConfig(RowMapConfig):
    """How keywords are asked for."""

    prompt_style: PromptStyle
    num_keywords: Count
    max_new_tokens: Count


@dataclass(frozen=True)
class Question:
    """What is asked about an item: p_k, and p_k without the item's text, for a second try."""

    prompt: str
    without_text: str


@contextmanager
def extract_keywords(items: pa.Table, captions: pa.Table, config: KeywordsConfig, *, llm: LazyLanguageModel) -> Iterator[MapResult]:
    """Name every item's keywords, which can be read until the context ends; the model is loaded only if there is work left."""
    decides = (config.prompt_style, config.num_keywords, config.max_new_tokens, config.batch_size, llm.revision, str(llm.dtype))

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        return name_batch(llm.model, [row.payload for row in batch], config)

    with open_ledger("keywords", COLUMNS, code=[name_batch], inputs=decides) as ledger:
        yield map_rows(
            ledger, build_rows(items, captions, config), compute, batch_size=config.batch_size, label="keywords", prepare=lambda: llm.model
        )


def build_rows(items: pa.Table, captions: pa.Table, config: KeywordsConfig) -> list[Row]:
    """Build one unit of work per item, identified and ordered by its filled prompt; payload is the question, or a Rejection."""
    caption_of = map_columns(captions, "item_id", "caption")
    rows = []
    for item_id, text in map_columns(items, "item_id", "text").items():
        question = build_question(caption_of.get(item_id), text, config)
        words = question.reason if isinstance(question, Rejection) else question.prompt
        rows.append(Row(key=item_id, inputs=words, payload=question, order=words))
    return rows


def build_question(caption: str | None, text: str, config: KeywordsConfig) -> Question | Rejection:
    """Fill p_k with and without the text, or say why that cannot be done."""
    if caption is None or not caption.strip():
        return Rejection(NO_CAPTION)
    shape: dict[str, Any] = {"prompt_style": config.prompt_style, "num_keywords": config.num_keywords}
    return Question(build_keyword_prompt(caption, text.strip() or caption, **shape), build_keyword_prompt(caption, "", **shape))


def name_batch(language_model: LanguageModel, questions: list[Question | Rejection], config: KeywordsConfig) -> list[dict[str, Any] | Rejection]:
    """Name the keywords of one batch of questions; what is not asked is replaced by a placeholder, so that the batch keeps its shape."""
    outcomes = ask_batch(language_model, [question if isinstance(question, Rejection) else question.prompt for question in questions], config)
    failed = [isinstance(outcome, Rejection) and isinstance(question, Question) for outcome, question in zip(outcomes, questions, strict=True)]
    if not any(failed):
        return outcomes
    again = [
        question.without_text if isinstance(question, Question) and asked else NOT_ASKED for question, asked in zip(questions, failed, strict=True)
    ]
    second = ask_batch(language_model, again, config)
    return [new if asked and not isinstance(new, Rejection) else old for old, new, asked in zip(outcomes, second, failed, strict=True)]


def ask_batch(language_model: LanguageModel, prompts: list[str | Rejection], config: KeywordsConfig) -> list[dict[str, Any] | Rejection]:
    """Ask the prompts that there are, and parse the replies."""
    replies = ask_model(language_model, [PLACEHOLDER if isinstance(prompt, Rejection) else prompt for prompt in prompts], config)
    return [prompt if isinstance(prompt, Rejection) else read_reply(reply, config) for prompt, reply in zip(prompts, replies, strict=True)]


def ask_model(language_model: LanguageModel, prompts: list[str], config: KeywordsConfig) -> list[str]:
    """Return the model's greedy replies: as many list entries as asked for, none beginning like an earlier one; after examples, one line."""
    from pipeline.models.decoding import DecodeRules  # imports torch, and every stage that checks its params imports this module

    wrapped = [wrap_keyword_prompt(prompt, language_model, prompt_style=config.prompt_style) for prompt in prompts]
    stop = "\n" if config.prompt_style == "few_shot" else None  # a chat model ends its reply itself, and a list may have many lines
    rules = DecodeRules(config.max_new_tokens, stop=stop, max_parts=config.num_keywords, distinct_parts=True)
    return language_model.generate([prompt for _, prompt in wrapped], prefix=wrapped[0][0], rules=rules)


def read_reply(reply: str, config: KeywordsConfig) -> dict[str, Any] | Rejection:
    """Parse one reply."""
    keywords = parse_keywords(reply, max_keywords=config.num_keywords)
    if keywords:
        return {"keywords": keywords}
    hint = THOUGHT_ONLY if reply and not strip_thought(reply).strip() else ""
    return Rejection(f"The language model's reply holds no keyword: {reply[:80]!r}{hint}.")
