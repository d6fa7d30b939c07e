"""What a text encoder will read, decided here for every prompt: the name of a thing gives way before the words that stand beside it.

A text encoder reads a fixed number of tokens and drops the rest in silence. In our prompts keywords stand behind what the reference is called,
and the titles of shops fill an encoder alone. So a title is shortened, at a word, until everything behind it is read. It keeps its first words
in any case (a quarter of the tokens, but one word at least), for a picture must show something; where keywords alone are too many, the last
are not read. A text that the encoder reads whole stays as it is, byte for byte.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TITLE_SHARE = 4  # one in so many tokens is the title's in any case
WORD_SHARE = 2  # a single word of more than one in so many tokens is cut anywhere: it is a code or an address
WORD_END = re.compile(r"(?<=\S)(?=\s|$)|(?<=[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff])")  # an ideograph is a word
LOOSE_ENDS = " ,;:.-–—/|&+([{（、，"  # nothing follows them any more


@dataclass(frozen=True)
class FittedText:
    """A text and the title in it, as an encoder will read them; `is_cut` says whether it would not have read all of the whole title's text."""

    text: str
    title: str
    is_cut: bool = False


class TextBudget:
    """A text encoder's number of tokens, those at a text's start and end included, and how its own tokenizer counts (at least up to one more)."""

    def __init__(self, count_tokens: Callable[[str], int], num_tokens: int) -> None:
        self.count_tokens, self.num_tokens = count_tokens, num_tokens

    def reads(self, text: str) -> bool:
        """Say whether the encoder reads all of a text."""
        return self.count_tokens(text) <= self.num_tokens

    def fit(self, title: str, write: Callable[[str], str] = str) -> FittedText:
        """Shorten a title so that the encoder reads all of `write(title)`, or as much of it as can be."""
        text = write(title)
        if self.reads(text):
            return FittedText(text, title)
        first = next(WORD_END.finditer(title), None)
        is_code = first is not None and self.count_tokens(title[: first.end()]) > self.num_tokens // WORD_SHARE
        cuts = list(range(1, len(title) + 1)) if is_code else [match.end() for match in WORD_END.finditer(title)]
        shortened = max(
            find_beginning(title, cuts, lambda short: self.reads(write(short))),
            find_beginning(title, cuts, lambda short: self.count_tokens(short) <= self.num_tokens // TITLE_SHARE),
            key=len,
        )
        return FittedText(write(shortened), shortened, is_cut=True)

    def fit_beginning(self, text: str, title: str) -> FittedText:
        """Shorten the title that a text begins with."""
        rest = text.removeprefix(title)
        return self.fit(title, lambda short: short + rest)


UNBOUNDED = TextBudget(len, 2**62)  # of an encoder that reads everything


def find_beginning(title: str, cuts: Sequence[int], fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of a title that ends at one of the cuts and fits, the first one if none does."""
    place = bisect_right(cuts, False, key=lambda cut: not fits(title[:cut].rstrip(LOOSE_ENDS)))
    return title[: cuts[max(place, 1) - 1]].rstrip(LOOSE_ENDS) if cuts else title


def budget_tokenizer(tokenizer: PreTrainedTokenizerBase, num_tokens: int | None = None) -> TextBudget:
    """Return the budget of an encoder with a tokenizer of `transformers`, which knows how much it reads unless `num_tokens` says so."""
    limit = num_tokens or tokenizer.model_max_length
    return TextBudget(lambda text: len(tokenizer(text, truncation=True, max_length=limit + 1)["input_ids"]), limit)


def budget_open_clip(tokenizer: Any) -> TextBudget:
    """Return the budget of a text tower with a tokenizer of `open_clip`."""
    if hasattr(tokenizer, "tokenizer"):  # one of `transformers` inside
        return budget_tokenizer(tokenizer.tokenizer, tokenizer.context_length)
    return TextBudget(lambda text: len(tokenizer.encode(text)) + 2, tokenizer.context_length)


def load_text_budget(reference: str) -> TextBudget:
    """Load the budget of a diffusion model's text encoder from its folder or hub id; no weights are read."""
    from transformers import AutoTokenizer

    from pipeline.models.folders import resolve_model
    from pipeline.models.references import explain_load_error, split_revision

    reference = resolve_model(reference)
    name, revision = split_revision(reference)
    with explain_load_error("tokenizer of the diffusion model", reference):
        return budget_tokenizer(AutoTokenizer.from_pretrained(name, revision=revision, subfolder="tokenizer"))
