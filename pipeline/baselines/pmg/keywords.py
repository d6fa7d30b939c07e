"""Preference keywords of a case from the language model, and target keywords of its reference (PMG's two lists).

Paper: Shen et al. 2024, and its released code: the target's keywords are a phrase for the kind of picture ("movie poster"), its title, and its
first five keywords. Departures:
1. The phrase is left out, for no method's prompt names the kind of picture.
2. A keyword that repeats the title is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.baselines.pmg.config import PmgConfig
from pipeline.baselines.pmg.prompts import build_preference_prompt, describe_picture, wrap_preference_prompt
from pipeline.columns import map_columns
from pipeline.data.texts import read_item_texts
from pipeline.keywords.parse import parse_keywords
from pipeline.keywords.prompts import flatten_text
from pipeline.ledger import open_ledger
from pipeline.models.decoding import DecodeRules
from pipeline.rows import Rejection, Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.llm import LanguageModel, LazyLanguageModel

LEDGER = "pmg_keywords"
COLUMNS = pa.schema([pa.field("keywords", pa.list_(pa.string()))])
NO_PICTURE = "None of the case's history items has a text or a caption."
NO_ITEM = "The case has no retrieved item."
NO_KEYWORD = "The language model's reply holds no keyword."


@dataclass(frozen=True)
class ItemWords:
    """What is known of the items in words, by item_id."""

    texts: Mapping[str, str]  # own text, or the caption without one
    captions: Mapping[str, str]
    keywords: Mapping[str, Sequence[str]]  # w_i of the stage keywords

    def describe(self, item_ids: Sequence[str], *, max_items: int) -> list[str]:
        """Describe the newest `max_items` items that have words, newest first."""
        lines = [describe_picture(self.texts.get(item_id, ""), self.captions.get(item_id, "")) for item_id in reversed(item_ids)]
        return [line for line in lines if line][:max_items]

    def list_target(self, item_id: str, *, num_keywords: int) -> list[str]:
        """List the target keywords of an item: its text, then the first of its own keywords that do not repeat it."""
        text = flatten_text(self.texts.get(item_id, ""))
        own = [keyword for keyword in self.keywords.get(item_id, ()) if keyword != text.lower()]
        return [*filter(None, [text]), *own[:num_keywords]]


def read_words(items: pa.Table, captions: pa.Table, keywords: pa.Table) -> ItemWords:
    """Read the tables of the stages dataset, captioning and keywords."""
    return ItemWords(
        read_item_texts(items, captions),
        map_columns(captions, "item_id", "caption"),
        map_columns(keywords, "item_id", "keywords"),
    )


def name_preferences(
    histories: Mapping[str, Sequence[str]], words: ItemWords, config: PmgConfig, *, llm: LazyLanguageModel
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Name the preference keywords of every case (case_id -> history); also return why the others have none.

    With `attributes`, the model is asked once for each and once more to choose among all that it named.
    """
    pictures = {case_id: words.describe(history, max_items=config.max_items) for case_id, history in histories.items()}
    known = {case_id: lines for case_id, lines in pictures.items() if lines}
    rejected = {case_id: NO_PICTURE if histories[case_id] else NO_ITEM for case_id, lines in pictures.items() if not lines}
    questions = {case_id: [build_question(lines, config, attribute=name) for name in config.attributes or ("",)] for case_id, lines in known.items()}
    replies = ask([question for asked in questions.values() for question in asked], config, llm=llm)
    named = {case_id: list(dict.fromkeys(word for question in asked for word in replies[question])) for case_id, asked in questions.items()}
    if config.attributes:
        merges = {case_id: build_question(known[case_id], config, candidates=found) for case_id, found in named.items() if found}
        chosen = ask(list(merges.values()), config, llm=llm)
        named = {case_id: choose(chosen[merges[case_id]], found, config) if found else [] for case_id, found in named.items()}
    rejected |= {case_id: NO_KEYWORD for case_id, found in named.items() if not found}
    return {case_id: found for case_id, found in named.items() if found}, rejected


def build_question(pictures: Sequence[str], config: PmgConfig, *, attribute: str = "", candidates: Sequence[str] = ()) -> str:
    """Build one question about a case."""
    return build_preference_prompt(
        pictures, prompt_style=config.prompt_style, num_keywords=config.num_keywords, attribute=attribute, candidates=candidates
    )


def choose(reply: Sequence[str], candidates: Sequence[str], config: PmgConfig) -> list[str]:
    """Keep of the merge's reply what was a candidate, and fill up with candidates in order: a small model's reply may name other things."""
    kept = [keyword for keyword in reply if keyword in candidates]
    return [*kept, *(keyword for keyword in candidates if keyword not in kept)][: config.num_keywords]


def ask(questions: Sequence[str], config: PmgConfig, *, llm: LazyLanguageModel) -> dict[str, list[str]]:
    """Ask every different question once -> its keywords, none where the reply holds none; finished replies are read back."""

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        replies = generate(llm.model, [row.payload for row in batch], config)
        parsed = [parse_keywords(reply, max_keywords=config.num_keywords) for reply in replies]
        return [{"keywords": keywords} if keywords else Rejection(NO_KEYWORD) for keywords in parsed]

    identity = (config.prompt_style, config.num_keywords, config.max_new_tokens, config.batch_size)
    rows = [Row(question, question, question) for question in sorted(set(questions))]
    with open_ledger(LEDGER, COLUMNS, code=[ask], inputs=(identity, llm.revision, str(llm.dtype))) as ledger:
        result = map_rows(ledger, rows, compute, batch_size=config.batch_size, label=LEDGER).load()
    return {question: result.values[question]["keywords"] if question in result.values else [] for question in questions}


def generate(language_model: LanguageModel, questions: Sequence[str], config: PmgConfig) -> list[str]:
    """Return the model's greedy replies: as many list entries as asked for, none beginning like an earlier one; after examples, one line."""
    wrapped = [wrap_preference_prompt(question, language_model, prompt_style=config.prompt_style) for question in questions]
    stop = "\n" if config.prompt_style == "few_shot" else None  # a chat model ends its reply itself
    rules = DecodeRules(config.max_new_tokens, stop=stop, max_parts=config.num_keywords, distinct_parts=True)
    return language_model.generate([question for _, question in wrapped], prefix=wrapped[0][0], rules=rules)
