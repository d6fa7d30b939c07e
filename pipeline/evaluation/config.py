"""The params of the evaluation stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.metrics.image import SSIM_WINDOW

TextSource = Literal["text", "caption", "text_and_caption"]
HistorySource = Literal["all", "retrieved"]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is compared with what, and how sure the numbers must be; every field is explained in conf/config.yaml."""

    split: Literal["train", "val", "test"]
    history: HistorySource
    text: TextSource
    image_size: int
    batch_size: int
    main_method: str
    num_resamples: int
    level: float
    max_rejected_fraction: float

    def __post_init__(self) -> None:
        if self.image_size < SSIM_WINDOW:
            raise ValueError(f"image_size is {self.image_size}, but it must be >= {SSIM_WINDOW} px, the window of SSIM.")
        for name in ("batch_size", "num_resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be >= 1.")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}, but it must be between 0 and 1, e.g. 0.95.")
        if not 0 <= self.max_rejected_fraction <= 1:
            raise ValueError(f"max_rejected_fraction is {self.max_rejected_fraction}, but it must be in [0, 1].")
