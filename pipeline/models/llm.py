"""A causal language model behind two verbs: continue prompts, and turn prompts with [IMG] vectors into hidden states (eq. 6, 7).

Legend: B rows, S padded prompt tokens, P prefix tokens, T = max_text_tokens, L [IMG] vectors, D hidden size.
Rows do not see each other: prompts are padded on the left to a multiple of PAD_TOKENS, rows of another padded length go in
another forward pass, and every pass is filled up to the size of the batch with copies, so that a row's result depends on the
row and the batch size only. The prefix that all prompts share (instruction and examples) is encoded once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

PAD_TOKENS = 16
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class PromptStates:
    """Last hidden states (after the final norm) of prompts that end in L [IMG] vectors, float32 on the model's device."""

    text_BTD: torch.Tensor  # the last T text tokens in order, left-aligned; zeros after a shorter prompt
    mask_BT: torch.Tensor  # bool, True at text tokens
    img_BLD: torch.Tensor  # the [IMG] positions


@dataclass(frozen=True)
class DecodeRules:
    """Greedy decoding: where it ends and what it may not repeat."""

    max_new_tokens: int
    stop: str = "\n"  # the text from its first occurrence on is cut off
    repetition_penalty: float = 1.0  # > 1 lowers the logits of tokens that the reply already holds

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, but it must be >= 1.")
        if self.repetition_penalty < 1:
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}, but it must be >= 1 (1: none).")


class LanguageModel:
    """A frozen causal language model with its tokenizer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.device = model.device
        self.hidden_dim: int = model.config.hidden_size
        self._prefixes: dict[str, tuple[int, Cache | None]] = {}

    def split_chat(self, system: str, user: str) -> tuple[str, str]:
        """Apply the chat template; return (what comes before the user's words, the rest up to where the reply begins)."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        start = text.rindex(user)
        return text[:start], text[start:]

    def measure_embedding(self) -> tuple[torch.Tensor, float]:
        """Return the mean row (D,) and the mean Euclidean norm of the input embeddings' rows."""
        rows_VD = self.model.get_input_embeddings().weight.detach().float()
        return rows_VD.mean(dim=0).cpu(), rows_VD.norm(dim=1).mean().item()

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], *, prefix: str = "", rules: DecodeRules) -> list[str]:
        """Continue `prefix + prompt` greedily; returns the new text of each row, cut at `rules.stop` and stripped."""
        replies: dict[int, str] = {}
        for indices, tokens in self._group_prompts(prompts):
            new_tokens = self._decode_greedily(tokens, prefix, rules)
            for row, index in enumerate(indices):
                text = self.tokenizer.decode(new_tokens[row], skip_special_tokens=True)
                replies[index] = text.split(rules.stop, 1)[0].strip()
        return [replies[index] for index in range(len(prompts))]

    def forward_states(self, prompts: Sequence[str], img_vectors_LD: torch.Tensor, *, prefix: str = "", max_text_tokens: int) -> PromptStates:
        """Run `prefix + prompt + [IMG] x L` once; differentiable with respect to img_vectors_LD.

        Text states are those of the prompt without the prefix, its last `max_text_tokens` tokens.
        """
        size, length, dim = len(prompts), len(img_vectors_LD), self.hidden_dim
        text_BTD = torch.zeros(size, max_text_tokens, dim, device=self.device)
        mask_BT = torch.zeros(size, max_text_tokens, dtype=torch.bool, device=self.device)
        img_rows: list[torch.Tensor | None] = [None] * size
        for indices, tokens in self._group_prompts(prompts):
            hidden_BSD = self._run_with_img(tokens, img_vectors_LD, prefix)
            for row, index in enumerate(indices):
                num_kept = min(len(tokens[row]), max_text_tokens)
                text_BTD[index, :num_kept] = hidden_BSD[row, -length - num_kept : -length].detach()
                mask_BT[index, :num_kept] = True
                img_rows[index] = hidden_BSD[row, -length:]
        return PromptStates(text_BTD, mask_BT, torch.stack([row for row in img_rows if row is not None]))

    def _group_prompts(self, prompts: Sequence[str]) -> list[tuple[list[int], list[list[int]]]]:
        """Group rows by padded length; each group is (row indices, token lists filled up with copies to len(prompts))."""
        tokens = [self.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
        groups: dict[int, list[int]] = {}
        for index, row in enumerate(tokens):
            if not row:
                raise ValueError("an empty prompt has no tokens to continue.")
            groups.setdefault(_round_up(len(row)), []).append(index)
        return [(group, [tokens[i] for i in group + group[-1:] * (len(prompts) - len(group))]) for _, group in sorted(groups.items())]

    def _run_with_img(self, tokens: list[list[int]], img_vectors_LD: torch.Tensor, prefix: str) -> torch.Tensor:
        prefix_length, cache = self._start_cache(prefix, len(tokens))
        ids_BS, mask_BS = self._pad_left(tokens)
        embed_BSD = self.model.get_input_embeddings()(ids_BS)
        img_BLD = img_vectors_LD.to(self.device, embed_BSD.dtype).expand(len(tokens), -1, -1)
        mask_BS = torch.cat([mask_BS, mask_BS.new_ones(img_BLD.shape[:2])], dim=1)
        out = self.model.base_model(
            inputs_embeds=torch.cat([embed_BSD, img_BLD], dim=1),
            **self._build_positions(mask_BS, prefix_length),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return out.last_hidden_state.float()

    def _decode_greedily(self, tokens: list[list[int]], prefix: str, rules: DecodeRules) -> list[list[int]]:
        prefix_length, cache = self._start_cache(prefix, len(tokens))
        ids_BS, mask_BS = self._pad_left(tokens)
        replies: list[list[int]] = [[] for _ in tokens]
        done = [False] * len(tokens)
        seen_BV = torch.zeros(len(tokens), self.model.config.vocab_size, dtype=torch.bool, device=self.device)
        for _ in range(rules.max_new_tokens):
            out = self.model(
                input_ids=ids_BS,
                **self._build_positions(mask_BS, prefix_length, last=ids_BS.shape[1]),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            logits_BV = penalise_repeats(out.logits[:, -1].float(), seen_BV, penalty=rules.repetition_penalty)
            ids_BS = logits_BV.argmax(dim=-1, keepdim=True)
            seen_BV.scatter_(1, ids_BS, True)
            mask_BS = torch.cat([mask_BS, mask_BS.new_ones(len(tokens), 1)], dim=1)
            for row, token in enumerate(ids_BS[:, 0].tolist()):
                done[row] = done[row] or self._is_end(token)
                if not done[row]:
                    replies[row].append(token)
                    done[row] = rules.stop in self.tokenizer.decode(token)
            if all(done):
                break
        return replies

    def _is_end(self, token: int) -> bool:
        end = self.model.generation_config.eos_token_id
        ends = end if isinstance(end, list) else [end]
        return token in ends or token == self.tokenizer.eos_token_id

    def _pad_left(self, tokens: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        size = _round_up(max(map(len, tokens)))
        pad = self.tokenizer.pad_token_id or 0
        ids_BS = torch.tensor([[pad] * (size - len(row)) + row for row in tokens], device=self.device)
        mask_BS = torch.tensor([[0] * (size - len(row)) + [1] * len(row) for row in tokens], device=self.device)
        return ids_BS, mask_BS

    def _build_positions(self, mask_BS: torch.Tensor, prefix_length: int, *, last: int | None = None) -> dict[str, torch.Tensor]:
        """Build attention mask (prefix included) and positions; padding lies between prefix and prompt and takes no position."""
        positions_BS = (mask_BS.cumsum(dim=1) - 1).clamp(min=0) + prefix_length
        full_BS = torch.cat([mask_BS.new_ones(len(mask_BS), prefix_length), mask_BS], dim=1)
        return {"attention_mask": full_BS, "position_ids": positions_BS if last is None else positions_BS[:, -last:]}

    def _start_cache(self, prefix: str, size: int) -> tuple[int, Any]:
        """Return the number of prefix tokens and a fresh cache that holds them for `size` rows (None without a prefix)."""
        if prefix not in self._prefixes:
            ids = self.tokenizer(prefix, add_special_tokens=False)["input_ids"]
            cache = None
            if ids:
                with torch.no_grad():
                    cache = self.model.base_model(input_ids=torch.tensor([ids], device=self.device), use_cache=True).past_key_values
            self._prefixes = {prefix: (len(ids), cache)}
        length, cache = self._prefixes[prefix]
        if cache is not None:
            cache = copy.deepcopy(cache)
            cache.batch_repeat_interleave(size)
        return length, cache


def penalise_repeats(logits_BV: torch.Tensor, seen_BV: torch.Tensor, *, penalty: float) -> torch.Tensor:
    """Divide positive and multiply negative logits of seen tokens by `penalty` (Keskar et al. 2019)."""
    if penalty == 1.0:
        return logits_BV
    lowered_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, lowered_BV, logits_BV)


def load_language_model(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a causal language model and its tokenizer from a hub id or folder, frozen and in eval mode."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipeline.models.folders import resolve_model

    path = resolve_model(reference)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="sdpa").to(device)
    return LanguageModel(model, AutoTokenizer.from_pretrained(path))


def _round_up(length: int) -> int:
    return -(-length // PAD_TOKENS) * PAD_TOKENS
