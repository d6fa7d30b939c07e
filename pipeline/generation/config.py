"""The params of the generation stage, the same for every method."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len
from pydantic import NonNegativeFloat

from pipeline.config import Count, RowMapConfig, Split, config_dataclass

LOOK_METHODS = (
    "ip_adapter",
    "oracle",
)  # methods of image prompts, which are look tokens where models.ip_adapter is null
OWN_MODELS = ("glide", "lavit")  # methods whose generator is another one, which `models` names by the method's name


@config_dataclass
class GenerationConfig(RowMapConfig):
    """What is drawn and how; every field is explained in conf/config.yaml."""

    splits: Annotated[tuple[Split, ...], Len(1)]
    steps: Count
    guidance_scale: NonNegativeFloat
    look_scale: NonNegativeFloat
    ip_adapter_scale: Annotated[float, Ge(0)] | dict[str, Any]
    start: Literal["noise", "reference"]
    strength: Annotated[float, Gt(0), Le(1)]
    negative_prompt: str
    scheduler: Literal["dpm", "unipc", "ddim", "own"]
