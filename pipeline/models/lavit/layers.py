"""The layers that LaVIT's visual tokenizer and its decoder are made of, under the names of the official weights.

Legend: B pictures, N places, M places that are looked at, W width, H heads, c channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6  # of attention among some places; where none of them is allowed, all weigh the same


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BNW: Tensor) -> Tensor:
        """Change every place by itself."""
        return self.fc2(functional.gelu(self.fc1(x_BNW)))


class SelfAttention(nn.Module):
    """Every place looks at all of them, or at those that `allowed_BNM` (1 or 0) says."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BNW: Tensor, allowed_BNM: Tensor | None = None) -> Tensor:
        """Mix the places."""
        query, key, value = (split_heads(part_BNW, self.heads) for part_BNW in self.qkv(x_BNW).chunk(3, dim=-1))
        if allowed_BNM is None:
            mixed_BHNc = functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed_BHNc = attend_among(query, key, value, allowed_BNM)
        return self.proj(mixed_BHNc.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Every place looks at those of another sequence."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def split(self, x_BNW: Tensor, seen_BMW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of one sequence, keys and values of the other."""
        query, key, value = self.query(x_BNW), self.key(seen_BMW), self.value(seen_BMW)
        return split_heads(query, self.heads), split_heads(key, self.heads), split_heads(value, self.heads)


class AmongAttention(CrossAttention):
    """Cross-attention by the rule of `attend_among`."""

    def forward(self, x_BNW: Tensor, seen_BMW: Tensor, allowed_BNM: Tensor) -> Tensor:
        """Look at the allowed places (1 or 0)."""
        mixed_BHNc = attend_among(*self.split(x_BNW, seen_BMW), allowed_BNM)
        return self.proj(mixed_BHNc.transpose(1, 2).flatten(2))


class MaskedAttention(CrossAttention):
    """Cross-attention to a padded sequence; `is_there_BM` is False at padding."""

    def forward(self, x_BNW: Tensor, seen_BMW: Tensor, is_there_BM: Tensor) -> Tensor:
        """Look at what is no padding."""
        query, key, value = self.split(x_BNW, seen_BMW)
        mixed_BHNc = functional.scaled_dot_product_attention(query, key, value, attn_mask=is_there_BM[:, None, None])
        return self.proj(mixed_BHNc.transpose(1, 2).flatten(2))


def split_heads(x_BNW: Tensor, heads: int) -> Tensor:
    """Part the channels: (B, N, W) to (B, H, N, c)."""
    return x_BNW.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend_among(query_BHNc: Tensor, key_BHMc: Tensor, value_BHMc: Tensor, allowed_BNM: Tensor) -> Tensor:
    """Attend to allowed places; EPSILON is spread over all of them, so that gradients and places without any are fine."""
    logit_BHNM = query_BHNc @ key_BHMc.transpose(-2, -1) * query_BHNc.shape[-1] ** -0.5
    weight_BHNM = (logit_BHNM - logit_BHNM.amax(dim=-1, keepdim=True)).float().exp() * allowed_BNM[:, None].float()
    weight_BHNM = (weight_BHNM + EPSILON / weight_BHNM.shape[-1]) / (weight_BHNM.sum(dim=-1, keepdim=True) + EPSILON)
    return torch.matmul(weight_BHNM.type_as(value_BHMc), value_BHMc)
