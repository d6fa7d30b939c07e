"""The params of PMG: its own stage's, and those of the choice among images, which generation reads."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.keywords.prompts import PromptStyle


@dataclass(frozen=True)
class SelectionConfig:
    """Params `pmg.selection`: which images of a case are drawn, and how one is chosen."""

    style_weights: tuple[int, ...]
    num_images: int
    alpha: float
    negative_prompt: str

    def __post_init__(self) -> None:
        if not self.style_weights or min(self.style_weights) < 1:
            raise ValueError(f"style_weights is {list(self.style_weights)}, but it must hold one or more numbers >= 1.")
        if self.num_images < 1:
            raise ValueError(f"num_images is {self.num_images}, but it must be >= 1.")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}, but it must be in [0, 1].")


@dataclass(frozen=True)
class PmgConfig:
    """Params `pmg`; every field is explained in conf/config.yaml."""

    prompt_style: PromptStyle
    max_items: int
    num_keywords: int
    attributes: tuple[str, ...]
    num_target_keywords: int
    max_new_tokens: int
    batch_size: int
    use_soft: bool
    num_prefix: int
    num_soft: int
    train_cases: int
    num_steps: int
    batch_cases: int
    images_per_case: int
    noises_per_image: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    validation_cases: int
    validation_every: int
    max_rejected_fraction: float
    selection: SelectionConfig

    def __post_init__(self) -> None:
        counts = ("max_items", "num_keywords", "max_new_tokens", "batch_size", "num_prefix", "num_soft", "train_cases", "batch_cases")
        for name in (*counts, "images_per_case", "noises_per_image", "validation_cases", "validation_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be >= 1.")
        for name in ("num_target_keywords", "num_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be >= 0.")
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise ValueError(f"learning_rate ({self.learning_rate}) and clip_norm ({self.clip_norm}) must be > 0.")
        if not 0 <= self.max_rejected_fraction <= 1:
            raise ValueError(f"max_rejected_fraction is {self.max_rejected_fraction}, but it must be in [0, 1].")
