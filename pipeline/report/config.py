"""The params of the report stage."""

from __future__ import annotations

from pydantic import NonNegativeInt

from pipeline.config import config_dataclass


@config_dataclass
class ReportConfig:
    """How much the page shows; every field is explained in conf/config.yaml."""

    title: str
    num_users: NonNegativeInt
    num_concepts: NonNegativeInt
    num_rejected: NonNegativeInt
