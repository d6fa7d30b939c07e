"""The params of the baseline GLIDE."""

from __future__ import annotations

from pipeline.config import config_dataclass
from pipeline.models.glide.config import GlideSampling


@config_dataclass
class GlideConfig:
    """Params `glide`; every field is explained in conf/config.yaml."""

    sampling: GlideSampling
