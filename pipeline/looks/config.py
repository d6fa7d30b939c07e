"""The params of the stage look."""

from __future__ import annotations

from pydantic import PositiveFloat

from pipeline.config import Count, Share, TrainingConfig, config_dataclass

STAGE = "look"
SHIPPED_MAP, ITS_MODEL = "embedded/look", "embedded/artist_diffusion"  # the map that we ship, and the only drawing model that has seen its tokens
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


def check_pair(look: object, diffusion: object) -> None:
    """Raise ValueError if the shipped look map is to guide another shipped drawing model, to which its tokens are noise."""
    if look == SHIPPED_MAP and diffusion != ITS_MODEL and str(diffusion).startswith("embedded/"):
        raise ValueError(
            f"models.diffusion is {diffusion}, which has never seen the look tokens of models.look, {look}; "
            "take models=artists, or preference.visual_tokens=0 and comparison.ip_adapter=false to draw without them."
        )
