"""LaVIT's decoder: a picture's codes to the condition that a diffusion model draws it from.

Legend: B pictures, K codes (the longest picture's), N places of the condition, W width, E width of a code, D width of the condition,
P of its one vector, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from pipeline.models.lavit.layers import MaskedAttention, Mlp, SelfAttention, split_heads
from pipeline.models.lavit.shape import LavitShape


class Condition(NamedTuple):
    """What a diffusion model is told of a picture; only the high-resolution one has a vector of the whole."""

    states_BND: Tensor
    pooled_BP: Tensor | None


class DecoderBlock(nn.Module):
    """The places of the condition look at each other and at the codes."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__()
        self.norm0 = nn.LayerNorm(shape.width)
        self.self_attn = SelfAttention(shape.width, shape.heads)
        self.norm1 = nn.LayerNorm(shape.width)
        self.cross_attn = MaskedAttention(shape.width, shape.heads)
        self.norm2 = nn.LayerNorm(shape.width)
        self.mlp = Mlp(shape.width, shape.mlp_width)

    def forward(self, x_BNW: Tensor, codes_BKW: Tensor, is_there_BK: Tensor) -> Tensor:
        """Add all three parts to the places."""
        x_BNW = x_BNW + self.self_attn(self.norm0(x_BNW))
        x_BNW = x_BNW + self.cross_attn(self.norm1(x_BNW), codes_BKW, is_there_BK)
        return x_BNW + self.mlp(self.norm2(x_BNW))


class AttentionPool(nn.Module):
    """CLIP's: the mean of all places, put before them, looks at all."""

    def __init__(self, places: int, width: int, heads: int, pooled_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(places + 1, width) / width**0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, pooled_width)

    def forward(self, x_BNW: Tensor) -> Tensor:
        """Return one vector of all places: (B, P)."""
        x_BNW = torch.cat([x_BNW.mean(dim=1, keepdim=True), x_BNW], dim=1) + self.positional_embedding
        query, key, value = (split_heads(part, self.heads) for part in (self.q_proj(x_BNW[:, :1]), self.k_proj(x_BNW), self.v_proj(x_BNW)))
        return self.c_proj(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1))


class CodeDecoder(nn.Module):
    """What both decoders share; each has heads of its own for the diffusion model that it feeds."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__()
        self.in_proj = nn.Linear(shape.code_width, shape.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.num_patches, shape.width))
        self.query_embed = nn.Parameter(torch.zeros(1, shape.num_patches, shape.width))
        self.blocks = nn.ModuleList(DecoderBlock(shape) for _ in range(shape.decoder_layers))
        self.norm = nn.LayerNorm(shape.width)
        self.decode_task_layer = nn.Sequential(nn.Linear(shape.width, shape.width), nn.Tanh(), nn.Linear(shape.width, shape.width))

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Turn the vectors (K, E) of each picture's codes, at least one, into what is seen at every place: (B, N, W)."""
        assert all(len(code_KE) for code_KE in codes), "a picture has at least one code"
        codes_BKE = pad_sequence(list(codes), batch_first=True)
        length_B1 = torch.tensor([len(code_KE) for code_KE in codes], device=codes_BKE.device)[:, None]
        is_there_BK = torch.arange(codes_BKE.shape[1], device=codes_BKE.device) < length_B1
        codes_BKW = self.in_proj(codes_BKE) + self.pos_embed[:, : codes_BKE.shape[1]]
        x_BNW = self.query_embed.expand(len(codes), -1, -1)
        for block in self.blocks:
            x_BNW = block(x_BNW, codes_BKW, is_there_BK)
        return self.decode_task_layer(self.norm(x_BNW))


class LowresDecoder(CodeDecoder):
    """For a diffusion model like Stable Diffusion 1.5."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__(shape)
        self.unet_proj = nn.Linear(shape.width, shape.lowres_width)

    def forward(self, codes: Sequence[Tensor]) -> Condition:
        """Decode codes to token states."""
        return Condition(self.unet_proj(self.decode(codes)), None)


class HighresDecoder(CodeDecoder):
    """For a diffusion model like Stable Diffusion XL."""

    def __init__(self, shape: LavitShape) -> None:
        super().__init__(shape)
        self.unet_proj_1, self.unet_proj_2 = (nn.Linear(shape.width, width) for width in shape.highres_widths)
        self.unet_attnpool = AttentionPool(shape.num_patches, shape.width, shape.heads, shape.pooled_width)

    def forward(self, codes: Sequence[Tensor]) -> Condition:
        """Decode codes to token states, whose two parts lie side by side, and one vector."""
        seen_BNW = self.decode(codes)
        return Condition(torch.cat([self.unet_proj_1(seen_BNW), self.unet_proj_2(seen_BNW)], dim=-1), self.unet_attnpool(seen_BNW))
