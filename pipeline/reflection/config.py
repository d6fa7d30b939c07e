"""The params of the reflection stage, and the readings of the paper that they choose from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from pipeline.config import Count, TrainingConfig, config_dataclass

Trainable = Literal["calibrator+mapper", "calibrator"]
PerturbedRows = Literal["attention", "all"]
PolicyReading = Literal["score_function", "literal", "standard_normal"]
RewardReading = Literal["hinge_cost", "swapped", "literal", "rank"]
LOOK_FIELDS = ("look_directions", "look_sigma", "reward_look")  # without effect where there are no look tokens
Baseline = Literal["mean", "center", "none"]
CalibrationReading = Literal["pooled", "literal"]
SemanticReading = Literal["mapped", "literal"]


@config_dataclass
class ReflectionConfig(TrainingConfig):
    """How the calibrator and the mapper are trained; every field is explained in conf/config.yaml or conf/method/default.yaml."""

    batch_cases: Count
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    gamma: NonNegativeFloat
    rank_scale: NonNegativeFloat
    num_perturbations: NonNegativeInt
    sigma: PositiveFloat
    trainable: Trainable
    perturbed_rows: PerturbedRows
    policy: PolicyReading
    reward: RewardReading
    margin: NonNegativeFloat
    standardise_scores: bool
    baseline: Baseline
    calibration: CalibrationReading
    semantic: SemanticReading
    retrieved_feature: Literal["visual", "clip_image"]
    reward_steps: Count
    reward_guidance: NonNegativeFloat
    reward_scheduler: Literal["dpm", "unipc", "ddim", "own"]
    draw_batch: Count
    validation_cases: Count
    patience: NonNegativeInt
    keep: Literal["best", "last"]
    look_directions: Count
    look_sigma: PositiveFloat
    reward_look: NonNegativeFloat

    def __post_init__(self) -> None:
        if self.num_perturbations == 1 and self.baseline == "mean":
            raise ValueError("baseline is 'mean' with num_perturbations 1, which makes every advantage 0; use 'center' or 'none'.")

    def describe(self, *, with_looks: bool) -> dict[str, Any]:
        """Return what a training depends on; without look tokens nothing of looks is."""
        return {name: value for name, value in asdict(self).items() if with_looks or name not in LOOK_FIELDS}

    def list_scales(self) -> dict[str, float]:
        """Return the factor of each loss in eq. 15; without perturbations the rank loss is dropped by the caller."""
        return {"rank": self.alpha * self.rank_scale, "calibration": self.beta, "semantic": self.gamma}
