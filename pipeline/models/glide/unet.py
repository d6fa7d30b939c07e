"""GLIDE's U-Net over pixels, with the names and shapes of the official weights (checked against their list in the tests).

Legend: B pictures, C channels, h, w size, E width of the timestep's embedding, T = h * w places, K tokens of the text, W their width, H heads,
c channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.glide.shape import NUM_GROUPS, GlideShape
from pipeline.models.glide.text import TextReader, TextStates

MAX_PERIOD = 10_000
OUT_CHANNELS = 6  # the noise, and where its variance lies between its bounds, of three colours
Resampling = Literal["none", "up", "down"]


def embed_timesteps(timestep_B: Tensor, width: int) -> Tensor:
    """Return the cosines, then the sines of a timestep at frequencies from 1 to 1 / MAX_PERIOD (exclusive) -> (B, width)."""
    half = width // 2
    frequency_F = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=timestep_B.device) / half)
    angle_BF = timestep_B.float()[:, None] * frequency_F
    return torch.cat([angle_BF.cos(), angle_BF.sin()], dim=1)


def resample(x_BChw: Tensor, kind: Resampling) -> Tensor:
    """Double the size (nearest), halve it (mean of four), or leave it."""
    if kind == "up":
        return functional.interpolate(x_BChw, scale_factor=2, mode="nearest")
    return functional.avg_pool2d(x_BChw, 2) if kind == "down" else x_BChw


def zero(module: nn.Module) -> nn.Module:
    """Set a layer's weights to 0, so that an untrained block changes nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResBlock(nn.Module):
    """Two convolutions beside a skip connection; the timestep scales and shifts what is between them. It may change the size."""

    def __init__(self, channels: int, out_channels: int, shape: GlideShape, *, resampling: Resampling = "none") -> None:
        super().__init__()
        self.resampling: Resampling = resampling
        self.in_layers = nn.Sequential(nn.GroupNorm(NUM_GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * shape.channels, 2 * out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(NUM_GROUPS, out_channels),
            nn.SiLU(),
            nn.Dropout(shape.dropout),
            zero(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x_BChw: Tensor, emb_BE: Tensor) -> Tensor:
        """Add to the picture what the block finds; a new size is taken before the first convolution."""
        normalise, activate, convolve = self.in_layers
        h_BChw = convolve(resample(activate(normalise(x_BChw)), self.resampling))
        scale_BC, shift_BC = self.emb_layers(emb_BE).chunk(2, dim=1)
        h_BChw = self.out_layers[0](h_BChw) * (1 + scale_BC[..., None, None]) + shift_BC[..., None, None]
        return self.skip_connection(resample(x_BChw, self.resampling)) + self.out_layers[1:](h_BChw)


class AttentionBlock(nn.Module):
    """Attention of every place to the text and to all places at once.

    The rows of `qkv` and of `encoder_kv` are grouped by head: its (queries,) keys and values, then the next head's.
    """

    def __init__(self, channels: int, shape: GlideShape) -> None:
        super().__init__()
        self.heads = channels // shape.head_channels
        self.norm = nn.GroupNorm(NUM_GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.encoder_kv = nn.Conv1d(shape.text_width, 2 * channels, 1)
        self.proj_out = zero(nn.Conv1d(channels, channels, 1))

    def forward(self, x_BChw: Tensor, states_BKW: Tensor) -> Tensor:
        """Add to the picture what its places see."""
        query, key, value = self._split(self.qkv(self.norm(x_BChw).flatten(2)), 3)
        text_key, text_value = self._split(self.encoder_kv(states_BKW.transpose(1, 2)), 2)
        key, value = torch.cat([text_key, key], dim=2), torch.cat([text_value, value], dim=2)
        seen = functional.scaled_dot_product_attention(query, key, value)  # (B, H, T, c)
        return x_BChw + self.proj_out(seen.transpose(2, 3).flatten(1, 2)).view_as(x_BChw)

    def _split(self, grouped: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Split (B, H * parts * c, T) into `parts` tensors (B, H, T, c)."""
        return grouped.unflatten(1, (self.heads, -1)).transpose(2, 3).chunk(parts, dim=-1)


class Stage(nn.Sequential):
    """Blocks that stand together in the weights' names; each is told what it can be told."""

    def forward(self, x_BChw: Tensor, emb_BE: Tensor, states_BKW: Tensor) -> Tensor:
        """Go through the blocks."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x_BChw = layer(x_BChw, emb_BE)
            elif isinstance(layer, AttentionBlock):
                x_BChw = layer(x_BChw, states_BKW)
            else:
                x_BChw = layer(x_BChw)
        return x_BChw


class GlideUnet(TextReader):
    """The base model or the upsampler: noise, and in the upsampler a smaller picture, to what is left of the noise."""

    def __init__(self, shape: GlideShape) -> None:
        super().__init__(shape)
        self.shape = shape
        width = 4 * shape.channels
        self.time_embed = nn.Sequential(nn.Linear(shape.channels, width), nn.SiLU(), nn.Linear(width, width))
        first, last = shape.list_channels()[0], shape.list_channels()[-1]
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(shape.in_channels, first, 3, padding=1)), *_build_way_down(shape)])
        self.middle_block = Stage(ResBlock(last, last, shape), AttentionBlock(last, shape), ResBlock(last, last, shape))
        self.output_blocks = nn.ModuleList(_build_way_up(shape))
        self.out = nn.Sequential(nn.GroupNorm(NUM_GROUPS, first), nn.SiLU(), zero(nn.Conv2d(first, OUT_CHANNELS, 3, padding=1)))

    def forward(self, x_B3hw: Tensor, timestep_B: Tensor, text: TextStates, low_res_B3hw: Tensor | None = None) -> Tensor:
        """Predict the noise in a picture and the place of its variance -> (B, 6, h, w), before any guidance."""
        if low_res_B3hw is not None:
            larger_B3hw = functional.interpolate(low_res_B3hw, x_B3hw.shape[2:], mode="bilinear", align_corners=False)
            x_B3hw = torch.cat([x_B3hw, larger_B3hw], dim=1)
        emb_BE = self.time_embed(embed_timesteps(timestep_B, self.shape.channels)) + text.pooled_BE
        h_BChw, kept = x_B3hw, []
        for stage in self.input_blocks:
            h_BChw = stage(h_BChw, emb_BE, text.states_BKW)
            kept.append(h_BChw)
        h_BChw = self.middle_block(h_BChw, emb_BE, text.states_BKW)
        for stage in self.output_blocks:
            h_BChw = stage(torch.cat([h_BChw, kept.pop()], dim=1), emb_BE, text.states_BKW)
        return self.out(h_BChw)


def _attend(shape: GlideShape, level: int) -> list[AttentionBlock]:
    """Return the attention of a size, none where the picture is too large for it."""
    return [AttentionBlock(shape.list_channels()[level], shape)] if shape.image_size // 2**level in shape.attention_sizes else []


def _build_way_down(shape: GlideShape) -> Iterator[Stage]:
    """Build the stages from the full size to the smallest."""
    channels = shape.list_channels()
    before = channels[0]
    for level, width in enumerate(channels):
        for _ in range(shape.num_res_blocks):
            yield Stage(ResBlock(before, width, shape), *_attend(shape, level))
            before = width
        if level < len(channels) - 1:
            yield Stage(ResBlock(width, width, shape, resampling="down"))


def _build_way_up(shape: GlideShape) -> Iterator[Stage]:
    """Build the stages back to the full size; each also reads what its counterpart on the way down gave."""
    channels = shape.list_channels()
    kept = [channels[0]]
    for level, width in enumerate(channels):
        kept += [width] * (shape.num_res_blocks + (level < len(channels) - 1))
    before = channels[-1]
    for level, width in reversed(list(enumerate(channels))):
        for number in range(shape.num_res_blocks + 1):
            is_last = number == shape.num_res_blocks and level > 0
            larger = [ResBlock(width, width, shape, resampling="up")] if is_last else []
            yield Stage(ResBlock(before + kept.pop(), width, shape), *_attend(shape, level), *larger)
            before = width
