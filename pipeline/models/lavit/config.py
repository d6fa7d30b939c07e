"""How LaVIT writes codes and draws."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, Le
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from pipeline.config import Count, config_dataclass

Pixels = Literal["highres", "lowres"]


@config_dataclass
class LavitSampling:
    """How a picture's codes are written, and drawn; every field is explained in conf/config.yaml."""

    language_guidance: PositiveFloat
    temperature: PositiveFloat
    top_k: Count
    top_p: Annotated[float, Gt(0), Le(1)]
    min_new_tokens: NonNegativeInt
    max_new_tokens: Count
    pixels: Pixels
    width: Count
    height: Count
    steps: Count
    guidance_scale: NonNegativeFloat

    def __post_init__(self) -> None:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens is {self.min_new_tokens}, but it must be at most max_new_tokens, {self.max_new_tokens}.")
