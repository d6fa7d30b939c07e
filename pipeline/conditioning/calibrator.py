"""The balance calibrator: cross-attention of the detailed preference E^d over the global preference E^g, then E^g itself (eq. 8, 9).

Legend: B cases, T text rows, K tokens of an encoded prompt, D language model width, d token width; P^gen has T + K + K rows.
Departures from the paper, whose eq. 9 has no parameters although its loss section trains them:
1. E^txt has the language model's width, so a learned linear layer with normalisation brings it to d before eq. 8.
2. Queries W_q E^d and keys W_k E^g are learned, start as the identity, and are compared by cosine with a learned temperature
   (raw products of token states are so large that the softmax would be one-hot). Values are E^g as it is, so that every row is a
   convex combination of states that the diffusion model knows. `attention: literal` is eq. 9 as printed.
3. The first token of E^g (a large vector common to all texts) and its padding are no keys; they stay in the part passed through.
4. "Residual connection" is read as eq. 9 prints it: E^g is concatenated (`fusion: concat`). `residual_add` adds E^d to the attention rows.
5. A prompt shorter than T leaves rows empty: such a row holds the first state of E^g, and pooling leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from pipeline.conditioning.config import CalibratorConfig


@dataclass(frozen=True)
class GeneralPreference:
    """P^gen of a batch, and what the losses need to know about its rows."""

    prompt_BTD: torch.Tensor  # P^gen (B, T + K + K, d): attention rows of the text, of the mapper's output, then E^g passed through
    pool_mask_BT: torch.Tensor  # bool (B, T + K + K): the attention rows that stand for something (no padding, no pass-through)
    mapped_BKD: torch.Tensor  # the mapper's output (B, K, d), which L_sem compares with the caption's token states
    detailed_BTD: torch.Tensor  # E^d of eq. 8 (B, T + K, d): the projected text, then the mapper's output
    detailed_mask_BT: torch.Tensor  # bool (B, T + K): its rows that stand for something
    tokens_BMD: torch.Tensor | None = None  # look tokens behind P^gen, as they come, where there are any
    action_BA: torch.Tensor | None = None  # what is done to them and to guidance (`pipeline/conditioning/look_balance.py`)


class BalanceCalibrator(nn.Module):
    """Text projection, learned queries and keys, values = E^g unprojected."""

    def __init__(self, config: CalibratorConfig, *, llm_dim: int, token_dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.llm_dim, self.token_dim = config, llm_dim, token_dim
        self.text_projection = nn.Linear(llm_dim, token_dim)
        self.text_norm = nn.LayerNorm(token_dim)
        nn.init.xavier_uniform_(self.text_projection.weight, generator=generator)
        nn.init.zeros_(self.text_projection.bias)
        if config.attention == "learned":
            self.query = nn.Linear(token_dim, token_dim, bias=False)
            self.key = nn.Linear(token_dim, token_dim, bias=False)
            nn.init.eye_(self.query.weight)
            nn.init.eye_(self.key.weight)
            self.log_scale = nn.Parameter(torch.tensor(config.init_scale).log())

    def forward(
        self,
        text_BTD: torch.Tensor,
        text_mask_BT: torch.Tensor,
        mapped_BKD: torch.Tensor,
        global_BKD: torch.Tensor,
        global_mask_BK: torch.Tensor,
    ) -> GeneralPreference:
        """Compute P^gen from E^txt (B, T, D), the mapper's output and E^g; masks are True at tokens that are not padding."""
        detailed_BTD = self.join_detailed(text_BTD, mapped_BKD)
        attended_BTD = self.compute_attention(detailed_BTD, global_BKD, global_mask_BK) @ global_BKD
        if self.config.fusion == "residual_add":
            attended_BTD = attended_BTD + detailed_BTD
        real_BT = torch.cat([text_mask_BT, torch.ones_like(global_mask_BK)], dim=1)
        attended_BTD = torch.where(real_BT[..., None], attended_BTD, global_BKD[:, :1])
        return GeneralPreference(
            prompt_BTD=torch.cat([attended_BTD, global_BKD], dim=1),
            pool_mask_BT=torch.cat([real_BT, torch.zeros_like(global_mask_BK)], dim=1),
            mapped_BKD=mapped_BKD,
            detailed_BTD=detailed_BTD,
            detailed_mask_BT=real_BT,
        )

    def join_detailed(self, text_BTD: torch.Tensor, mapped_BKD: torch.Tensor) -> torch.Tensor:
        """Join E^d of eq. 8 (B, T + K, d): the projected text, then the mapper's output."""
        return torch.cat([self.text_norm(self.text_projection(text_BTD)), mapped_BKD], dim=1)

    def compute_attention(self, detailed_BTD: torch.Tensor, global_BKD: torch.Tensor, global_mask_BK: torch.Tensor) -> torch.Tensor:
        """Compute the attention weights of E^d's rows over E^g's (B, T + K, K)."""
        if self.config.attention == "literal":
            return compute_literal_attention(detailed_BTD, global_BKD)
        keys_BK = global_mask_BK.clone()
        keys_BK[:, 0] = False
        return compute_cosine_attention(self.query(detailed_BTD), self.key(global_BKD), keys_BK, scale=self.log_scale.exp())


def compute_literal_attention(query_BQD: torch.Tensor, key_BKD: torch.Tensor) -> torch.Tensor:
    """Compute softmax(E^d E^g^T / sqrt(d)), eq. 9 as printed -> (B, Q, K)."""
    return (query_BQD @ key_BKD.transpose(1, 2) / key_BKD.shape[-1] ** 0.5).softmax(dim=-1)


def compute_cosine_attention(query_BQD: torch.Tensor, key_BKD: torch.Tensor, mask_BK: torch.Tensor, *, scale: torch.Tensor | float) -> torch.Tensor:
    """Compute softmax(scale * cosine) over the keys where `mask_BK` -> (B, Q, K)."""
    if not mask_BK.any(dim=1).all():
        raise ValueError("a global prompt has no token to attend to.")
    cosine_BQK = functional.normalize(query_BQD, dim=-1) @ functional.normalize(key_BKD, dim=-1).transpose(1, 2)
    return (scale * cosine_BQK).masked_fill(~mask_BK[:, None], -torch.inf).softmax(dim=-1)
