"""The params of PMG: its own stage's, those of the choice among images, which generation reads, and what differs given the retrieved items."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len
from pydantic import NonNegativeInt

from pipeline.config import Count, RowMapConfig, Share, TrainingConfig, config_dataclass
from pipeline.keywords.prompts import PromptStyle

STAGE = "pmg"
CURVE_COLUMNS = ("step", "loss", "validation_loss")


@config_dataclass
class SelectionConfig:
    """Params `pmg.selection`: which images of a case are drawn, and how one is chosen."""

    style_weights: Annotated[tuple[Count, ...], Len(1)]
    num_images: Count
    alpha: Share


@config_dataclass
class PmgConfig(RowMapConfig, TrainingConfig):
    """Params `pmg`; every field is explained in conf/config.yaml."""

    prompt_style: PromptStyle
    max_items: Count
    num_keywords: Count
    attributes: tuple[str, ...]
    num_target_keywords: NonNegativeInt
    max_new_tokens: Count
    use_soft: bool
    num_prefix: Count
    num_soft: Count
    train_cases: Count
    batch_cases: Count
    images_per_case: Count
    noises_per_image: Count
    validation_cases: Count
    selection: SelectionConfig


@config_dataclass
class RetrievedPmgConfig:
    """Params `pmg_retrieved`: what takes the place of the same fields of `pmg`."""

    num_steps: NonNegativeInt
    images_per_case: Count
