"""A causal language model behind two verbs: continue prompts, and turn prompts with [IMG] vectors into hidden states (eq. 6, 7).

Legend: B rows, S padded prompt tokens, P prefix tokens, T = max_text_tokens, L [IMG] vectors, D hidden size.
Rows do not see each other: prompts are padded on the left to a multiple of PAD_TOKENS, rows of another padded length go in
another forward pass, and equal prompts are computed once. The prefix that all prompts share (instruction and examples) is encoded once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.cluster.parcels import remember_call
from pipeline.models.chat import split_chat
from pipeline.models.decoding import MIN_ROWS, DecodeRules, Tokens, decode_greedily, group_rows, round_up
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.kv_cache import RowCache
from pipeline.models.lazy import LazyModel
from pipeline.models.references import (
    CHECKED,
    DTYPES,
    NO_CODE,
    check_loaded,
    check_tokenizer,
    choose_variant,
    explain_load_error,
    read_reference,
    split_revision,
)
from pipeline.params import read_section

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

UNLIMITED = 2**31  # tokens: a model that knows no last position


@dataclass(frozen=True)
class PromptStates:
    """Last hidden states (after the final norm) of prompts that end in L [IMG] vectors, float32 on the model's device."""

    text_BTD: torch.Tensor  # the last T text tokens in order, left-aligned; zeros after a shorter prompt
    mask_BT: torch.Tensor  # bool, True at text tokens
    img_BLD: torch.Tensor  # the [IMG] positions


class LanguageModel:
    """A frozen causal language model with its tokenizer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.hidden_dim: int = model.config.hidden_size
        self.context: int = getattr(model.config, "max_position_embeddings", None) or UNLIMITED
        ends = model.generation_config.eos_token_id
        self.end_tokens = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self._prefixes: dict[str, tuple[int, Cache | None]] = {}
        self._row_caches: dict[str, RowCache] = {}

    def split_chat(self, system: str, user: str) -> tuple[str, str]:
        """Apply the chat template; return (what comes before the user's words, the rest up to where the reply begins)."""
        return split_chat(self.tokenizer, system, user)

    def measure_embedding(self) -> tuple[torch.Tensor, float]:
        """Return the mean row (D,) and the mean Euclidean norm of the input embeddings' rows."""
        rows_VD = self.model.get_input_embeddings().weight.detach().float()
        return rows_VD.mean(dim=0).cpu(), rows_VD.norm(dim=1).mean().item()

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], *, prefix: str = "", rules: DecodeRules) -> list[str]:
        """Continue `prefix + prompt` greedily; returns the new text of each row, cut by the rules and stripped."""
        prefix_length, _ = self._encode_prefix(prefix)
        rows = self.tokenize(prompts, reserved=prefix_length + rules.max_new_tokens)
        cache = self._open_cache(prefix, max(len(rows), MIN_ROWS), prefix_length + round_up(max(map(len, rows))) + rules.max_new_tokens)
        replies: dict[Tokens, str] = {}
        for group in group_rows(rows):
            for row, tokens in zip(group, decode_greedily(self, group, cache, rules, prefix_length=prefix_length), strict=True):
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                replies[row] = rules.cut(text)
        return [replies[row] for row in rows]

    def forward_states(self, prompts: Sequence[str], img_vectors_LD: torch.Tensor, *, prefix: str = "", max_text_tokens: int) -> PromptStates:
        """Run `prefix + prompt + [IMG] x L` once; differentiable with respect to img_vectors_LD.

        Text states are those of the prompt without the prefix, its last `max_text_tokens` tokens.
        """
        length = len(img_vectors_LD)
        rows = self.tokenize(prompts, reserved=self._encode_prefix(prefix)[0] + length)
        states: dict[Tokens, torch.Tensor] = {}
        for group in group_rows(rows):
            states.update(zip(group, self._run_with_img(group, img_vectors_LD, prefix), strict=True))
        text_BTD = torch.zeros(len(rows), max_text_tokens, self.hidden_dim, device=self.device)
        mask_BT = torch.zeros(len(rows), max_text_tokens, dtype=torch.bool, device=self.device)
        for index, row in enumerate(rows):
            num_kept = min(len(row), max_text_tokens)
            text_BTD[index, :num_kept] = states[row][-length - num_kept : -length].detach()
            mask_BT[index, :num_kept] = True
        return PromptStates(text_BTD, mask_BT, torch.stack([states[row][-length:] for row in rows]))

    def tokenize(self, prompts: Sequence[str], *, reserved: int) -> list[Tokens]:
        """Return each prompt's tokens, of one that fills what the model reads beside `reserved` tokens the last: what is asked stands at the end."""
        rows = [tuple(self.tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts]
        if not all(rows):
            raise ValueError("an empty prompt has no tokens to continue.")
        if reserved >= self.context:
            raise ValueError(f"the language model reads {self.context} tokens, but instruction and reply alone take {reserved}.")
        return [row[reserved - self.context :] for row in rows]

    def _run_with_img(self, rows: list[Tokens], img_vectors_LD: torch.Tensor, prefix: str) -> torch.Tensor:
        prefix_length, cache = self._encode_prefix(prefix)
        if cache is not None:
            cache = copy.deepcopy(cache)
            cache.batch_repeat_interleave(len(rows))
        ids_BS, mask_BS = self._pad_left(rows)
        embed_BSD = self.model.get_input_embeddings()(ids_BS)
        img_BLD = img_vectors_LD.to(self.device, embed_BSD.dtype).expand(len(rows), -1, -1)
        mask_BS = torch.cat([mask_BS, mask_BS.new_ones(img_BLD.shape[:2])], dim=1)
        out = self.model.base_model(
            inputs_embeds=torch.cat([embed_BSD, img_BLD], dim=1),
            **self._build_positions(mask_BS, prefix_length),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return out.last_hidden_state.float()

    def _pad_left(self, rows: list[Tokens]) -> tuple[torch.Tensor, torch.Tensor]:
        size = round_up(max(map(len, rows)))
        pad = self.tokenizer.pad_token_id or 0
        ids_BS = torch.tensor([[pad] * (size - len(row)) + list(row) for row in rows], device=self.device)
        mask_BS = torch.tensor([[0] * (size - len(row)) + [1] * len(row) for row in rows], device=self.device)
        return ids_BS, mask_BS

    def _build_positions(self, mask_BS: torch.Tensor, prefix_length: int) -> dict[str, torch.Tensor]:
        """Build attention mask (prefix included) and positions; padding lies between prefix and prompt and takes no position."""
        positions_BS = (mask_BS.cumsum(dim=1) - 1).clamp(min=0) + prefix_length
        full_BS = torch.cat([mask_BS.new_ones(len(mask_BS), prefix_length), mask_BS], dim=1)
        return {"attention_mask": full_BS, "position_ids": positions_BS}

    def _encode_prefix(self, prefix: str) -> tuple[int, Any]:
        """Return the number of prefix tokens and a one-row cache of them (None without a prefix); the last prefix is kept."""
        if prefix not in self._prefixes:
            ids = self.tokenizer(prefix, add_special_tokens=False)["input_ids"]
            cache = None
            if ids:
                with torch.inference_mode(False), torch.no_grad():  # states of a prefix may meet gradients later
                    cache = self.model.base_model(input_ids=torch.tensor([ids], device=self.device), use_cache=True).past_key_values
            self._prefixes = {prefix: (len(ids), cache)}
        return self._prefixes[prefix]

    def _open_cache(self, prefix: str, size: int, capacity: int) -> RowCache:
        """Return a cache that begins with the prefix; the last one is used again where it is large enough."""
        cache = self._row_caches.get(prefix)
        if cache is None or cache.size < size or cache.capacity < capacity:
            self._row_caches = {}  # frees the old one first
            cache = self._row_caches[prefix] = RowCache(self._encode_prefix(prefix)[1], size, capacity)
        return cache


@remember_call
def load_language_model(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a causal language model and its tokenizer from a hub id (`id@commit` pins one) or a folder, frozen and in eval mode."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference = resolve_model(reference)
    name, revision = split_revision(reference)
    with explain_load_error("language model", reference):
        model, report = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=dtype, **CHECKED, **choose_variant(reference))
        check_loaded(report)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, **NO_CODE)
        check_tokenizer(tokenizer)
    return LanguageModel(model.to(device), tokenizer)


@dataclass
class LazyLanguageModel(LazyModel[LanguageModel]):
    """A language model that is loaded when it is first needed; `revision` (its weights) and `dtype` identify what it computes."""

    dtype: torch.dtype


def prepare_language_model(params: Path, device: torch.device) -> LazyLanguageModel:
    """Prepare the model that the params' `models` block names, in its own number format."""
    reference = read_reference(params, "language_model")
    dtype = choose_dtype(read_section(params, "models.language_model_dtype"), device)
    revision = compute_model_revision(reference)
    return LazyLanguageModel(revision, lambda: load_language_model(reference, device=device, dtype=dtype), dtype)


def choose_dtype(name: object, device: torch.device) -> torch.dtype:
    """Return the number format `name`; `auto` is bfloat16 where the device computes in it natively (about 3 times as fast), else float32."""
    if name == "auto":
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise ValueError(f"models.language_model_dtype is {name!r}, but it must be one of: auto, {', '.join(DTYPES)}.")
    return DTYPES[str(name)]


def has_native_bfloat16(device: torch.device) -> bool:
    """Say whether the device has instructions for products of bfloat16 matrices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
