"""The params of the baseline LaVIT."""

from __future__ import annotations

from typing import Literal

from pipeline.config import Count, config_dataclass
from pipeline.models.lavit.config import LavitSampling


@config_dataclass
class LavitConfig:
    """Params `lavit`; every field is explained in conf/config.yaml."""

    prompt_mode: Literal["ref_only", "history+ref"]
    history_items: Count
    sampling: LavitSampling
