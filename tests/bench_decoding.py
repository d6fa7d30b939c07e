"""CPU time of our decoding and of the library's `generate` on keyword prompts. Run: OMP_NUM_THREADS=1 python -m tests.bench_decoding"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessor

from pipeline.keywords.prompts import build_examples, build_keyword_prompt
from pipeline.models.decoding import DecodeRules, Reply, round_up
from pipeline.models.llm import LanguageModel, prepare_language_model

RULES = DecodeRules(24, max_parts=5, distinct_parts=True)
STYLES = ("blueprint", "classic", "neon", "outline", "pastel", "sepia", "woodcut", "chrome")
THINGS = (
    "apple",
    "bicycle",
    "castle",
    "dolphin",
    "envelope",
    "fire engine",
    "guitar",
    "hat",
    "ice cream",
    "jar",
    "kite",
    "lamp",
    "mug",
    "net",
    "owl",
    "pen",
)


class LibraryRules(LogitsProcessor):
    """Our rules in the form that the library takes: what may not come next, and which rows have ended."""

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = replies

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for reply, scores_V in zip(self.replies, scores, strict=True):
            scores_V[reply.list_forbidden()] = -torch.inf
        return scores

    def stop(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        for reply, token in zip(self.replies, input_ids[:, -1].tolist(), strict=True):
            reply.append(token)
        return torch.tensor([reply.done for reply in self.replies])


@torch.inference_mode()
def generate_with_library(model: LanguageModel, prompts: list[str], prefix: str) -> list[list[int]]:
    """Decode with `generate` behind a repeated cache of the prefix."""
    rows = [model.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    known = model.tokenizer(prefix, add_special_tokens=False)["input_ids"]
    size = round_up(max(map(len, rows)))
    cache = copy.deepcopy(model.model.base_model(input_ids=torch.tensor([known]), use_cache=True).past_key_values)
    cache.batch_repeat_interleave(len(rows))
    rules = LibraryRules([Reply(model.tokenizer, model.end_tokens, RULES) for _ in rows])
    model.model.generate(
        input_ids=torch.tensor([known + [0] * (size - len(row)) + row for row in rows]),
        attention_mask=torch.tensor([[1] * len(known) + [0] * (size - len(row)) + [1] * len(row) for row in rows]),
        past_key_values=cache,
        max_new_tokens=RULES.max_new_tokens,
        do_sample=False,
        logits_processor=[rules],
        stopping_criteria=[rules.stop],
        pad_token_id=0,
    )
    return [reply.tokens for reply in rules.replies]


def main() -> None:
    """Print seconds of both and their ratio."""
    model, prefix = prepare_language_model(Path("params.yaml"), torch.device("cpu")).load(), build_examples()
    prompts = [
        build_keyword_prompt(f"a {style} sticker of a {thing}", thing, prompt_style="few_shot", num_keywords=5)
        for style in STYLES
        for thing in THINGS
    ]
    started = time.process_time()
    model.generate(prompts, prefix=prefix, rules=RULES)
    between = time.process_time()
    generate_with_library(model, prompts, prefix)
    ours, library = between - started, time.process_time() - between
    print(f"{len(prompts)} prompts: ours {ours:.1f} s, the library's generate {library:.1f} s of CPU time, ratio {library / ours:.2f}")


if __name__ == "__main__":
    main()
