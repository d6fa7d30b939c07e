"""Keywords w_i of every item: p_k filled with caption and text, the language model's reply, the parser (eq. 6).

Departures: (1) an item without caption, or with a reply that holds no keyword, is rejected with the reason; without a text of its own it is
called by its caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.columns import map_columns
from pipeline.config import Count, RowMapConfig, config_dataclass
from pipeline.keywords.parse import parse_keywords
from pipeline.keywords.prompts import PromptStyle, build_keyword_prompt, wrap_keyword_prompt
from pipeline.ledger import open_ledger
from pipeline.rows import MapResult, Rejection, Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.llm import LanguageModel, LazyLanguageModel

COLUMNS = pa.schema([pa.field("keywords", pa.list_(pa.string()))])
PLACEHOLDER = "Keywords:"
NO_CAPTION = "The item has no caption (captioning rejected its image)."


@config_dataclass
class KeywordsConfig(RowMapConfig):
    """How keywords are asked for."""

    prompt_style: PromptStyle
    num_keywords: Count
    max_new_tokens: Count


@contextmanager
def extract_keywords(items: pa.Table, captions: pa.Table, config: KeywordsConfig, *, llm: LazyLanguageModel) -> Iterator[MapResult]:
    """Name every item's keywords, which can be read until the context ends; the model is loaded only if there is work left."""
    decides = (config.prompt_style, config.num_keywords, config.max_new_tokens, config.batch_size, llm.revision, str(llm.dtype))

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        return name_batch(llm.model, [row.payload for row in batch], config)

    with open_ledger("keywords", COLUMNS, code=[name_batch], inputs=decides) as ledger:
        yield map_rows(ledger, build_rows(items, captions, config), compute, batch_size=config.batch_size, label="keywords")


def build_rows(items: pa.Table, captions: pa.Table, config: KeywordsConfig) -> list[Row]:
    """Build one unit of work per item, identified and ordered by its filled prompt; payload is the prompt, or a Rejection."""
    caption_of = map_columns(captions, "item_id", "caption")
    rows = []
    for item_id, text in map_columns(items, "item_id", "text").items():
        prompt = fill_prompt(caption_of.get(item_id), text, config)
        words = prompt.reason if isinstance(prompt, Rejection) else prompt
        rows.append(Row(key=item_id, inputs=words, payload=prompt, order=words))
    return rows


def fill_prompt(caption: str | None, text: str, config: KeywordsConfig) -> str | Rejection:
    """Fill p_k, or say why that cannot be done."""
    if caption is None or not caption.strip():
        return Rejection(NO_CAPTION)
    return build_keyword_prompt(caption, text.strip() or caption, prompt_style=config.prompt_style, num_keywords=config.num_keywords)


def name_batch(language_model: LanguageModel, prompts: list[str | Rejection], config: KeywordsConfig) -> list[dict[str, Any] | Rejection]:
    """Name the keywords of one batch of prompts; a rejected row is asked with a placeholder, so that the batch keeps its shape."""
    asked = [PLACEHOLDER if isinstance(prompt, Rejection) else prompt for prompt in prompts]
    replies = ask_model(language_model, asked, config)
    return [prompt if isinstance(prompt, Rejection) else read_reply(reply, config) for prompt, reply in zip(prompts, replies, strict=True)]


def ask_model(language_model: LanguageModel, prompts: list[str], config: KeywordsConfig) -> list[str]:
    """Return the model's greedy replies: one line, as many list entries as asked for, none beginning like an earlier one."""
    from pipeline.models.decoding import DecodeRules  # imports torch, and every stage that checks its params imports this module

    wrapped = [wrap_keyword_prompt(prompt, language_model, prompt_style=config.prompt_style) for prompt in prompts]
    rules = DecodeRules(config.max_new_tokens, max_parts=config.num_keywords, distinct_parts=True)
    return language_model.generate([prompt for _, prompt in wrapped], prefix=wrapped[0][0], rules=rules)


def read_reply(reply: str, config: KeywordsConfig) -> dict[str, Any] | Rejection:
    """Parse one reply."""
    keywords = parse_keywords(reply, max_keywords=config.num_keywords)
    return {"keywords": keywords} if keywords else Rejection(f"The language model's reply holds no keyword: {reply[:80]!r}.")
