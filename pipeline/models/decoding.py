"""Greedy decoding of replies that are one short list: where a reply ends, what it may not repeat, and the loop over the tokens.

Ours instead of the library's `generate`, whose rows stay in the batch until the last has ended, each with a copy of the prefix: it takes
about 1.5 times the CPU time on 128 keyword prompts (python -m tests.bench_decoding).

Legend: B rows, S tokens of a prompt, K cached tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipeline.models.kv_cache import RowCache
    from pipeline.models.llm import LanguageModel

Tokens = tuple[int, ...]  # of a prompt
PAD_TOKENS = 16
MIN_ROWS = 4  # products of fewer rows take other kernels, whose last bits differ
MIN_PART = 8  # rows; fewer cost more as a pass of their own than what they begin with


@dataclass(frozen=True)
class DecodeRules:
    """Greedy decoding: where it ends and what it may not repeat."""

    max_new_tokens: int
    stop: str | None = "\n"  # the text from its first occurrence on is cut off; None: a reply may have many lines
    separator: str = ","  # between the parts of a list
    max_parts: int = 0  # a reply ends after this many parts of a list; 0: no limit
    distinct_parts: bool = False  # no part of a list may begin with the token that an earlier part began with

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, but it must be >= 1.")
        if self.max_parts < 0:
            raise ValueError(f"max_parts is {self.max_parts}, but it must be >= 0 (0: no limit).")

    def stops_in(self, text: str) -> bool:
        """Say whether a reply ends in this text."""
        return self.stop is not None and self.stop in text

    def cut(self, text: str) -> str:
        """Return a reply's text up to where it stops, stripped."""
        return (text if self.stop is None else text.split(self.stop, 1)[0]).strip()


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
        self.done = self._rules.stops_in(text) or 0 < self._rules.max_parts <= self._num_separators


def round_up(length: int) -> int:
    """Return the padded length of a prompt."""
    return -(-length // PAD_TOKENS) * PAD_TOKENS


def group_rows(rows: Iterable[Tokens]) -> Iterator[list[Tokens]]:
    """Sort the different rows by length and yield those of one padded length together."""
    for _, group in itertools.groupby(sorted(set(rows), key=lambda row: (len(row), row)), key=lambda row: round_up(len(row))):
        yield list(group)


def split_rows(rows: Sequence[Tokens]) -> Iterator[list[Tokens]]:
    """Yield sorted rows of one length together; those that also begin alike, where that leaves parts that are worth a pass."""
    halves = {(len(row), row[: len(row) // 2]) for row in rows}
    begin_alike = len(rows) >= MIN_PART * len(halves)
    for _, part in itertools.groupby(rows, key=lambda row: (len(row), row[: len(row) // 2] if begin_alike else ())):
        yield list(part)


def decode_greedily(
    language_model: LanguageModel, prompts: Sequence[Tokens], cache: RowCache, rules: DecodeRules, *, prefix_length: int
) -> list[list[int]]:
    """Continue prompts of one padded length, in order of their length; rows that have ended leave the batch."""
    rows = [*prompts, *prompts[-1:] * (MIN_ROWS - len(prompts))]
    start = prefix_length + round_up(len(rows[0]))  # where the replies begin; before it: prefix, padding, prompt
    known_BK = torch.ones(len(rows), start + rules.max_new_tokens, dtype=torch.bool, device=language_model.device)
    for row, known_K in zip(rows, known_BK, strict=True):
        known_K[prefix_length : start - len(row)] = False
    hidden_BD = read_prompts(language_model, rows, known_BK[:, :start], cache, prefix_length)
    replies = [Reply(language_model.tokenizer, language_model.end_tokens, rules) for _ in rows]
    going = replies
    for stop in range(start, known_BK.shape[1]):
        logits_BV = language_model.model.get_output_embeddings()(hidden_BD).float()  # argmax of bfloat16 is slow
        for reply, logits_V in zip(going, logits_BV, strict=True):
            logits_V[reply.list_forbidden()] = -torch.inf
        tokens_B = logits_BV.argmax(dim=-1)
        for reply, token in zip(going, tokens_B.tolist(), strict=True):
            reply.append(token)
        kept = [place for place, reply in enumerate(going) if not reply.done]
        if not kept:
            break
        if MIN_ROWS <= len(kept) < len(going):
            going = [going[place] for place in kept]
            tokens_B, known_BK = tokens_B[kept], known_BK[kept]
            cache.keep(kept, start=prefix_length, stop=stop)
        cache.seek(slice(0, len(going)), stop)
        positions_B1 = known_BK[:, :stop].sum(dim=1, keepdim=True)
        hidden_BD = run(language_model, tokens_B[:, None], known_BK[:, None, None, : stop + 1], positions_B1, cache)
    return [reply.tokens for reply in replies[: len(prompts)]]


def read_prompts(language_model: LanguageModel, rows: Sequence[Tokens], known_BK: torch.Tensor, cache: RowCache, prefix_length: int) -> torch.Tensor:
    """Encode sorted prompts without their padding, and what a part of them begins with once; return the last states (B, D)."""
    start, first, states = known_BK.shape[1], 0, []
    for part in split_rows(rows):
        length, shared = len(part[0]), count_shared(part)
        mask_SK = known_BK.new_ones(length, start).tril(start - length) & known_BK[first]
        positions_1S = torch.arange(prefix_length, prefix_length + length, device=language_model.device)[None]
        for skipped, chosen in [(0, part[:1]), (shared, part)] if shared else [(0, part)]:
            ids_BS = torch.tensor([row[skipped:] for row in chosen], device=language_model.device)
            cache.seek(slice(first, first + len(part)), start - length + skipped)
            states_BD = run(language_model, ids_BS, mask_SK[None, None, skipped:], positions_1S[:, skipped:], cache)
        states.append(states_BD)
        first += len(part)
    return torch.cat(states)


def count_shared(part: Sequence[Tokens]) -> int:
    """Count the tokens that sorted rows of one length begin with and that are worth a pass of their own."""
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(part[0], part[-1], strict=True)))
    return max(0, min(same, len(part[0]) - MIN_ROWS)) if len(part) >= MIN_PART else 0


def run(language_model: LanguageModel, ids_BS: torch.Tensor, mask_B1SK: torch.Tensor, positions_BS: torch.Tensor, cache: RowCache) -> torch.Tensor:
    """Run tokens that the cache has a place for; return the states of the last ones (B, D)."""
    model = language_model.model.base_model
    out = model(input_ids=ids_BS, attention_mask=mask_B1SK, position_ids=positions_BS, past_key_values=cache, use_cache=True)
    return out.last_hidden_state[:, -1]
