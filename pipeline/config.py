"""What the configs are made of: frozen dataclasses whose types say which values are allowed, checked whenever one is built.

A config class stands in the package that it configures. What it refuses is never computed, and what it takes it hands on as it is.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass

CHANGES_NO_RESULT = True

# Strict: "7" and true are no integers, though an integer is taken for a float; NaN and the infinities are refused.
config_dataclass = partial(dataclass, frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))

Count = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0), Le(1)]
Split = Literal["train", "val", "test"]


@config_dataclass
class RowMapConfig:
    """What every stage has that maps rows through a model: rows of a forward pass, and the share of rows that may be rejected."""

    batch_size: Count
    max_rejected_fraction: Share


@config_dataclass
class AdamWConfig:
    """What every training with AdamW has."""

    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat


@config_dataclass
class TrainingConfig(AdamWConfig):
    """What every training has that is validated now and then; 0 steps train nothing."""

    num_steps: NonNegativeInt
    clip_norm: PositiveFloat
    validation_every: Count
