"""How GLIDE draws."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from pipeline.config import Count, config_dataclass


@config_dataclass
class GlideSampling:
    """How a picture is drawn; every field is explained in conf/config.yaml."""

    steps: Count
    guidance_scale: NonNegativeFloat
    upsample_steps: Count | Literal["fast27"]
    upsample_temperature: PositiveFloat
