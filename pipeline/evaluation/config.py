"""The params of the evaluation stage."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from pipeline.config import RowMapConfig, Split, config_dataclass
from pipeline.metrics.protocol import SSIM_WINDOW

TextSource = Literal["text", "caption", "text_and_caption"]
HistorySource = Literal["all", "retrieved"]


@config_dataclass
class EvaluationConfig(RowMapConfig):
    """What is compared with what, and how sure the numbers must be; every field is explained in conf/config.yaml."""

    split: Split
    history: HistorySource
    text: TextSource
    image_size: Annotated[int, Ge(SSIM_WINDOW)]
    main_method: str
    num_resamples: Annotated[int, Ge(2)]
    level: Annotated[float, Gt(0), Lt(1)]
