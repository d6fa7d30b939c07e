"""The params of the stage look."""

from __future__ import annotations

from pydantic import PositiveFloat

from pipeline.config import Count, Share, TrainingConfig, config_dataclass

STAGE = "look"
CURVE_COLUMNS = ("step", "loss", "validation_loss", "validation_loss_no_look")


@config_dataclass
class LookTrainingConfig(TrainingConfig):
    """Params `look`; every field is explained in conf/config.yaml."""

    width: Count
    ridge: PositiveFloat
    batch_size: Count
    no_look_share: Share
    max_lessons: Count
    validation_lessons: Count
