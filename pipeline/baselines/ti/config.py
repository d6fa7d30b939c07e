"""The params of the baseline Textual Inversion, and of the same given the retrieved items alone."""

from __future__ import annotations

from pydantic import NonNegativeInt

from pipeline.config import AdamWConfig, Count, Share, config_dataclass
from pipeline.models.templates import check_template

STAGE = "ti"
CURVE_COLUMNS = ("step", "held_out_loss")


@config_dataclass
class TextualInversionConfig(AdamWConfig):
    """Params `ti`; every field is explained in conf/config.yaml."""

    num_vectors: Count
    init_word: str
    template: str
    num_steps: Count
    images_per_step: Count
    noises_per_image: Count
    users_per_batch: Count
    held_out_images: NonNegativeInt
    held_out_draws: Count
    held_out_every: Count
    max_rejected_fraction: Share

    def __post_init__(self) -> None:
        check_template(self.template)


@config_dataclass
class RetrievedInversionConfig:
    """Params `ti_retrieved`: what takes the place of the same fields of `ti`."""

    num_steps: Count
    held_out_images: NonNegativeInt
