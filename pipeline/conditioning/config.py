"""The params of mapper and calibrator."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat

from pipeline.config import AdamWConfig, Count, config_dataclass
from pipeline.keywords.prompts import PromptStyle


@config_dataclass
class PromptFormat:
    """How p_g reaches the language model; fixed by the stage mapper and carried along with its weights."""

    prompt_style: PromptStyle
    max_text_tokens: Count  # T


@config_dataclass
class MapperConfig(AdamWConfig):
    """Params `mapper`; every field is explained in conf/."""

    prompt_style: PromptStyle
    prompt: Literal["leave_one_out", "detailed", "caption"]
    leave_one_out_k: Count
    max_text_tokens: Count
    num_img_tokens: Count
    d_model: Count
    num_layers: Count
    num_heads: Count
    ffn_dim: Count
    img_steps: NonNegativeInt
    img_batch_size: Count
    mapper_steps: NonNegativeInt
    attention_steps: NonNegativeInt
    batch_size: Count
    states_batch_size: Count
    warmup_steps: NonNegativeInt
    clip_norm: PositiveFloat
    max_captions: Count
    held_out_captions: Count
    held_out_every: Count

    def __post_init__(self) -> None:
        if self.max_captions <= self.held_out_captions:
            raise ValueError(f"max_captions ({self.max_captions}) must be larger than held_out_captions ({self.held_out_captions}).")

    @property
    def prompt_format(self) -> PromptFormat:
        """How prompts reach the language model."""
        return PromptFormat(prompt_style=self.prompt_style, max_text_tokens=self.max_text_tokens)

    @property
    def num_steps(self) -> int:
        """Steps of both phases."""
        return self.img_steps + self.mapper_steps


@config_dataclass
class CalibratorConfig:
    """Params `calibrator`; every field is explained in conf/."""

    attention: Literal["learned", "literal"]
    fusion: Literal["concat", "residual_add"]
    init_scale: PositiveFloat  # of the cosines before the softmax; learned from there
