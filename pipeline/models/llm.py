"""A causal language model behind two verbs: continue prompts, and turn prompts with [IMG] vectors into hidden states (eq. 6 and 7).

SIGNATURES FIRST (bodies follow).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PromptStates:
    """Last hidden states (after the final norm) of prompts that end in L [IMG] vectors; legend: T = max_text_tokens, D = hidden size."""

    text_BTD: torch.Tensor  # the last T text positions, right-aligned content moved to the left, zeros where the prompt is shorter
    mask_BT: torch.Tensor  # bool, True at real text positions
    img_BLD: torch.Tensor  # the [IMG] positions


class LanguageModel:
    """A frozen causal language model with its tokenizer."""

    hidden_dim: int
    device: torch.device

    def generate(self, prompts: list[str], *, prefix: str = "", max_new_tokens: int, stop: str = "\n", **rules: float) -> list[str]:
        """Continue `prefix + prompt` greedily up to `stop`; the prefix is encoded once for all prompts."""
        raise NotImplementedError

    def forward_states(
        self, prompts: list[str], img_vectors_LD: torch.Tensor, *, prefix: str = "", max_text_tokens: int
    ) -> PromptStates:
        """Run `prefix + prompt + [IMG]*L` once; differentiable with respect to img_vectors_LD only (model frozen)."""
        raise NotImplementedError


def load_language_model(
    reference: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Load a causal language model and its tokenizer from a hub id or folder, frozen and in eval mode."""
    raise NotImplementedError
