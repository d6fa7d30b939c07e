"""The params of the generation stage, the same for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class GenerationConfig:
    """What is drawn and how; every field is explained in conf/config.yaml."""

    splits: tuple[str, ...]
    steps: int
    guidance_scale: float
    scheduler: Literal["dpm", "ddim", "own"]
    batch_size: int
    max_rejected_fraction: float

    def __post_init__(self) -> None:
        unknown = [split for split in self.splits if split not in SPLITS]
        if unknown or not self.splits:
            raise ValueError(f"splits is {list(self.splits)}, but it must hold one or more of: {', '.join(SPLITS)}.")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be >= 1.")
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale is {self.guidance_scale}, but it must be >= 0 (1: no guidance).")
        if not 0 <= self.max_rejected_fraction <= 1:
            raise ValueError(f"max_rejected_fraction is {self.max_rejected_fraction}, but it must be in [0, 1].")
