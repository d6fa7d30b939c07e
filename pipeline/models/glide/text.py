"""GLIDE's text transformer: token states for the U-Net's attention, and one vector that is added to the timestep's.

Legend: B texts, K tokens, W width, E width of the timestep's embedding, H heads, c channels of a head.
Nothing is masked: every token sees every other one, padding as well. What stands at padding is a vector of its own for each place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.glide.shape import GlideShape


class TextStates(NamedTuple):
    """What the U-Net reads of a text."""

    pooled_BE: Tensor
    states_BKW: Tensor

    def select(self, rows: Tensor) -> TextStates:
        """Return the states of some texts."""
        return TextStates(self.pooled_BE[rows], self.states_BKW[rows])


class TextAttention(nn.Module):
    """Self-attention; the rows of `c_qkv` are grouped by head: its queries, keys and values, then the next head's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_qkv = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x_BKW: Tensor) -> Tensor:
        """Mix the tokens."""
        query, key, value = self.c_qkv(x_BKW).unflatten(-1, (self.heads, -1)).transpose(1, 2).chunk(3, dim=-1)  # (B, H, K, c) each
        return self.c_proj(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class TextMlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x_BKW: Tensor) -> Tensor:
        """Change every token by itself."""
        return self.c_proj(functional.gelu(self.c_fc(x_BKW)))


class TextBlock(nn.Module):
    """One layer of the transformer, normalised before each part."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = TextAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = TextMlp(width)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x_BKW: Tensor) -> Tensor:
        """Add both parts to the tokens."""
        x_BKW = x_BKW + self.attn(self.ln_1(x_BKW))
        return x_BKW + self.mlp(self.ln_2(x_BKW))


class TextTransformer(nn.Module):
    """The layers, under the name that the weights have them by."""

    def __init__(self, shape: GlideShape) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(TextBlock(shape.text_width, shape.text_heads) for _ in range(shape.text_layers))

    def forward(self, x_BKW: Tensor) -> Tensor:
        """Go through all layers."""
        for block in self.resblocks:
            x_BKW = block(x_BKW)
        return x_BKW


class TextReader(nn.Module):
    """What a GLIDE model has beside its U-Net; the names stand at the top of the official weights, so the U-Net inherits from it."""

    def __init__(self, shape: GlideShape) -> None:
        super().__init__()
        self.transformer = TextTransformer(shape)
        self.final_ln = nn.LayerNorm(shape.text_width)
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.text_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(shape.text_tokens, shape.text_width))
        self.padding_embedding = nn.Parameter(0.01 * torch.randn(shape.text_tokens, shape.text_width))
        self.transformer_proj = nn.Linear(shape.text_width, 4 * shape.channels)

    def read_text(self, tokens_BK: Tensor, is_text_BK: Tensor) -> TextStates:
        """Encode token ids; `is_text_BK` is False at padding. The one vector is that of the last place, which mostly is padding."""
        x_BKW = self.token_embedding(tokens_BK) + self.positional_embedding
        x_BKW = torch.where(is_text_BK[..., None], x_BKW, self.padding_embedding)
        states_BKW = self.final_ln(self.transformer(x_BKW))
        return TextStates(self.transformer_proj(states_BKW[:, -1]), states_BKW)
