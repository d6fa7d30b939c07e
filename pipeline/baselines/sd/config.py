"""The params of the baseline Stable Diffusion."""

from __future__ import annotations

from pydantic import NonNegativeInt

from pipeline.config import Count, TrainingConfig, config_dataclass

STAGE = "sd"
CURVE_COLUMNS = ("step", "loss", "validation_loss")


@config_dataclass
class StableDiffusionConfig(TrainingConfig):
    """Params `sd`; every field is explained in conf/config.yaml."""

    lora_rank: NonNegativeInt
    batch_size: Count
    validation_images: Count
