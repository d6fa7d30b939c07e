"""The params of the retrieval stage."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat

from pipeline.config import Share, config_dataclass

Strategy = Literal["ret", "exp-ret", "random"]
Normalisation = Literal["minmax", "raw", "sum"]


@config_dataclass
class RetrievalConfig:
    """How many history items are retrieved, which ones, and how they are weighted."""

    k: NonNegativeInt
    strategy: Strategy
    center: bool
    normalisation: Normalisation
    temperature: PositiveFloat
    max_rejected_fraction: Share
