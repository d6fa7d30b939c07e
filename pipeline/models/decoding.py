"""Rules of greedy decoding for replies that are one short list: where a reply ends and what it may not repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class DecodeRules:
    """Greedy decoding: where it ends and what it may not repeat."""

    max_new_tokens: int
    stop: str = "\n"  # the text from its first occurrence on is cut off
    separator: str = ","  # between the parts of a list
    max_parts: int = 0  # a reply ends after this many parts of a list; 0: no limit
    distinct_parts: bool = False  # no part of a list may begin with the token that an earlier part began with

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, but it must be >= 1.")
        if self.max_parts < 0:
            raise ValueError(f"max_parts is {self.max_parts}, but it must be >= 0 (0: no limit).")


class Reply:
    """One row's reply while it is decoded: its tokens so far and what may come next."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_tokens: set[int], rules: DecodeRules) -> None:
        self.tokens: list[int] = []
        self.done = False
        self._tokenizer, self._end_tokens, self._rules = tokenizer, end_tokens, rules
        self._num_separators = 0
        self._at_start = True
        self._starts: list[int] = []

    def list_forbidden(self) -> list[int]:
        """List the tokens that may not come next."""
        return self._starts if self._rules.distinct_parts and self._at_start else []

    def append(self, token: int) -> None:
        """Take one more token, unless the reply has ended."""
        if self.done or token in self._end_tokens:
            self.done = True
            return
        if self._at_start:
            self._starts.append(token)
        self.tokens.append(token)
        text = self._tokenizer.decode(token)
        self._at_start = text.rstrip(" ").endswith(self._rules.separator)
        self._num_separators += text.count(self._rules.separator)
        self.done = self._rules.stop in text or 0 < self._rules.max_parts <= self._num_separators
