"""PMG's soft preference embeddings: a frozen language model, a trained prefix, trained vectors behind the prompt, and a linear map.

Legend: B prompts, S padded prompt tokens, P prefix positions, M trained vectors, N layers, H key-value heads, h their width, D hidden
size of the language model, d token width of the diffusion model.
Paper: Shen et al. 2024, the module layout of its released `soft_prompt.py` (P-Tuning v2, Liu et al. 2022, without reparametrisation),
whose soft branch is not functional there. Departures:
1. The prompt is padded on the left, so that the trained vectors stand right behind every prompt, as PMG puts them.
2. Everything starts small, so that untrained the embeddings are M times the mean token state, which says nothing, instead of noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.models.decoding import PAD_TOKENS

if TYPE_CHECKING:
    from pipeline.models.llm import LanguageModel

PREFIX_STD = 0.02


@dataclass(frozen=True)
class SoftShape:
    """Sizes of the module."""

    num_prefix: int  # P
    num_soft: int  # M
    num_layers: int  # N
    num_heads: int  # H
    head_dim: int  # h
    input_dim: int  # D
    token_dim: int  # d


def read_shape(language_model: LanguageModel, *, num_prefix: int, num_soft: int, token_dim: int) -> SoftShape:
    """Read the language model's sizes."""
    config = language_model.model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return SoftShape(num_prefix, num_soft, config.num_hidden_layers, config.num_key_value_heads, head_dim, config.hidden_size, token_dim)


class SoftPreference(nn.Module):
    """All that PMG trains: prefix table (P, N·2·H·h), vectors (M, D) and the linear map D -> d."""

    def __init__(
        self, shape: SoftShape, *, mean_row_D: torch.Tensor, mean_norm: float, mean_state_d: torch.Tensor, generator: torch.Generator
    ) -> None:
        """`mean_row_D` and `mean_norm` are of the language model's embedding rows, `mean_state_d` is the mean token state of prompts."""
        super().__init__()
        self.shape = shape
        width = shape.num_layers * 2 * shape.num_heads * shape.head_dim
        self.prefix = nn.Parameter(PREFIX_STD * torch.randn(shape.num_prefix, width, generator=generator))
        noise_MD = torch.randn(shape.num_soft, shape.input_dim, generator=generator)
        vectors_MD = mean_row_D + noise_MD * mean_row_D.std()
        self.vectors = nn.Parameter(vectors_MD * (mean_norm / vectors_MD.norm(dim=1, keepdim=True)))
        self.linear = nn.Linear(shape.input_dim, shape.token_dim)
        with torch.no_grad():
            self.linear.weight.copy_(PREFIX_STD / shape.input_dim**0.5 * torch.randn(self.linear.weight.shape, generator=generator))
            self.linear.bias.copy_(mean_state_d)

    def forward(self, prompts: Sequence[str], language_model: LanguageModel) -> torch.Tensor:
        """Compute the soft embeddings (B, M, d) in float32, differentiable with respect to all parameters."""
        ids_BS, mask_BS = pad_left(prompts, language_model, reserved=self.shape.num_prefix + self.shape.num_soft)
        embed_BSD = language_model.model.get_input_embeddings()(ids_BS)
        vectors_BMD = self.vectors.to(embed_BSD.dtype).expand(len(prompts), -1, -1)
        full_BS = torch.cat([mask_BS.new_ones(len(prompts), self.shape.num_prefix), mask_BS, mask_BS.new_ones(vectors_BMD.shape[:2])], dim=1)
        positions_BS = (full_BS.cumsum(dim=1) - 1)[:, self.shape.num_prefix :]
        out = language_model.model.base_model(
            inputs_embeds=torch.cat([embed_BSD, vectors_BMD], dim=1),
            attention_mask=full_BS,
            position_ids=positions_BS,
            past_key_values=self.build_cache(len(prompts), embed_BSD.dtype),
            use_cache=True,
        )
        return self.linear(out.last_hidden_state[:, -self.shape.num_soft :].float())

    def build_cache(self, size: int, dtype: torch.dtype) -> object:
        """Build the keys and values of the prefix, the same for every row."""
        from transformers.cache_utils import DynamicCache

        shape = self.shape
        table_PN2Hh = self.prefix.view(shape.num_prefix, shape.num_layers, 2, shape.num_heads, shape.head_dim)
        rows_N2BHPh = table_PN2Hh.permute(1, 2, 3, 0, 4)[:, :, None].expand(-1, -1, size, -1, -1, -1).to(dtype)
        cache = DynamicCache()
        for layer in range(shape.num_layers):
            cache.update(rows_N2BHPh[layer, 0], rows_N2BHPh[layer, 1], layer)
        return cache


def pad_left(prompts: Sequence[str], language_model: LanguageModel, *, reserved: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenise prompts -> ids and mask (B, S), S a multiple of PAD_TOKENS; ValueError on a prompt without tokens."""
    rows = [list(row) for row in language_model.tokenize(prompts, reserved=reserved)]
    size = -(-max(map(len, rows)) // PAD_TOKENS) * PAD_TOKENS
    pad = language_model.tokenizer.pad_token_id or 0
    ids_BS = torch.tensor([[pad] * (size - len(row)) + row for row in rows], device=language_model.device)
    mask_BS = torch.tensor([[0] * (size - len(row)) + [1] * len(row) for row in rows], device=language_model.device)
    return ids_BS, mask_BS
