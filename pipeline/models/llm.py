"""A causal language model behind two verbs: continue prompts, and turn prompts with [IMG] vectors into hidden states (eq. 6, 7).

Legend: B rows, S padded prompt tokens, P prefix tokens, T = max_text_tokens, L [IMG] vectors, D hidden size.
Rows do not see each other: prompts are padded on the left to a multiple of PAD_TOKENS, rows of another padded length go in
another forward pass, and every pass is filled up to the size of the batch with copies, so that a row's result depends on the
row and the batch size only. The prefix that all prompts share (instruction and examples) is encoded once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.models.decoding import DecodeRules, Reply
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.kv_cache import build_cache
from pipeline.models.references import DTYPES, check_loaded, explain_load_error, read_reference, split_revision
from pipeline.params import read_section

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

PAD_TOKENS = 16


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
        ends = model.generation_config.eos_token_id
        self.end_tokens = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
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
        prefix_length, cache = self._encode_prefix(prefix)
        if cache is not None:
            cache = copy.deepcopy(cache)
            cache.batch_repeat_interleave(len(tokens))
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
        prefix_length, known = self._encode_prefix(prefix)
        ids_BS, mask_BS = self._pad_left(tokens)
        cache = build_cache(known, len(tokens), prefix_length + ids_BS.shape[1] + rules.max_new_tokens)
        replies = [Reply(self.tokenizer, self.end_tokens, rules) for _ in tokens]
        for _ in range(rules.max_new_tokens):
            out = self.model(
                input_ids=ids_BS,
                **self._build_positions(mask_BS, prefix_length, last=ids_BS.shape[1]),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits_BV = out.logits[:, -1].float()
            for row, reply in enumerate(replies):
                logits_BV[row, reply.list_forbidden()] = -torch.inf
            ids_BS = logits_BV.argmax(dim=-1, keepdim=True)
            mask_BS = torch.cat([mask_BS, mask_BS.new_ones(len(tokens), 1)], dim=1)
            for reply, token in zip(replies, ids_BS[:, 0].tolist(), strict=True):
                reply.append(token)
            if all(reply.done for reply in replies):
                break
        return [reply.tokens for reply in replies]

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


def load_language_model(reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a causal language model and its tokenizer from a hub id (`id@commit` pins one) or a folder, frozen and in eval mode."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, revision = split_revision(reference)
    with explain_load_error("language model", reference):
        model, report = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=dtype, output_loading_info=True)
        check_loaded(report)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    return LanguageModel(model.to(device), tokenizer)


class LazyLanguageModel:
    """A language model that is loaded when first needed; `revision` and `dtype` identify what it computes."""

    def __init__(self, load: Callable[[], LanguageModel], *, revision: str, dtype: torch.dtype) -> None:
        self.revision, self.dtype = revision, dtype
        self._load = load
        self._model: LanguageModel | None = None

    def load(self) -> LanguageModel:
        """Return the model."""
        self._model = self._model or self._load()
        return self._model


def prepare_language_model(params: Path, device: torch.device) -> LazyLanguageModel:
    """Prepare the model that the params' `models` block names, in its own number format."""
    reference = read_reference(params, "language_model")
    dtype = choose_dtype(read_section(params, "models.language_model_dtype"), device)
    return LazyLanguageModel(
        lambda: load_language_model(resolve_model(reference), device=device, dtype=dtype),
        revision=compute_model_revision(reference),
        dtype=dtype,
    )


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


def _round_up(length: int) -> int:
    return -(-length // PAD_TOKENS) * PAD_TOKENS
