"""The params of the reflection stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.reflection.losses import CalibrationReading, LossWeights, PolicyReading, SemanticReading
from pipeline.reflection.policy import PerturbedRows
from pipeline.reflection.reward import Baseline, RewardReading

Trainable = Literal["calibrator+mapper", "calibrator"]


@dataclass(frozen=True)
class ReflectionConfig:
    """How the calibrator and the mapper are trained; every field is explained in conf/config.yaml or conf/method/default.yaml."""

    num_steps: int
    batch_cases: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    alpha: float
    beta: float
    gamma: float
    rank_scale: float
    num_perturbations: int
    sigma: float
    trainable: Trainable
    perturbed_rows: PerturbedRows
    policy: PolicyReading
    reward: RewardReading
    margin: float
    standardise_scores: bool
    baseline: Baseline
    calibration: CalibrationReading
    semantic: SemanticReading
    retrieved_feature: Literal["visual", "clip_image"]
    reward_steps: int
    reward_guidance: float
    reward_scheduler: Literal["dpm", "ddim", "own"]
    draw_batch: int
    validation_cases: int
    validation_every: int
    patience: int
    keep: Literal["best", "last"]

    def __post_init__(self) -> None:
        for name in ("batch_cases", "reward_steps", "draw_batch", "validation_cases", "validation_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be >= 1.")
        for name in ("num_steps", "num_perturbations", "weight_decay", "margin", "reward_guidance", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be >= 0.")
        for name in ("learning_rate", "clip_norm", "sigma"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be > 0.")
        if self.num_perturbations == 1 and self.baseline == "mean":
            raise ValueError("baseline is 'mean' with num_perturbations 1, which makes every advantage 0; use 'center' or 'none'.")
        self.list_weights()

    def list_weights(self) -> LossWeights:
        """Return the weights of eq. 15; without perturbations the rank loss is dropped by the caller."""
        return LossWeights(alpha=self.alpha, beta=self.beta, gamma=self.gamma, rank_scale=self.rank_scale)
