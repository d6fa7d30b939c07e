"""Turn the ranker's scores of drawn images into rewards and advantages (paper: eq. 10-11).

Departures from the printed equation, each with the literal reading kept as an option:
1. Eq. 11's sign: as printed, the reward grows when the generated image scores WORSE than the reference and the global image, and
   eq. 12 then makes such images more likely. Here the hinge is a cost and the reward its negation (`hinge_cost`). `swapped` turns
   the difference instead, `literal` is the printed form, `rank` uses the ranks of eq. 10: -(rk - 1).
2. Eq. 11's margin stands outside the hinge, where it is a constant without effect; in `hinge_cost` it is inside.
3. Scores of different users are not comparable, so they are standardised by the user's mean and deviation over the catalogue.
4. A baseline is subtracted before eq. 12. It leaves the expected gradient's direction and lowers its variance.

Shapes: B cases, R perturbations, C comparators (reference, global).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.reflection.config import Baseline, RewardReading
from pipeline.reflection.losses import check_shape

MIN_STD = 1e-6  # of scores; less is the last bits of a float32


def compute_z_scores(score_BK: Tensor, mean_B: Tensor, std_B: Tensor) -> Tensor:
    """Standardise raw scores by each user's catalogue mean and standard deviation -> (B, K); 0 for a user to whom all items are equal."""
    check_shape("mean", mean_B, score_BK.shape[:1])
    check_shape("std", std_B, score_BK.shape[:1])
    varies_B1 = (std_B > MIN_STD)[:, None]
    return torch.where(varies_B1, (score_BK - mean_B[:, None]) / std_B.clamp(min=MIN_STD)[:, None], 0.0)


def compute_rewards(score_BR: Tensor, comparator_BC: Tensor, *, margin: float, reading: RewardReading = "hinge_cost") -> Tensor:
    """Compute the reward of every perturbation against all comparators -> (B, R); larger is meant to be better."""
    num_cases, num_noises = score_BR.shape
    check_shape("comparator", comparator_BC, (num_cases, comparator_BC.shape[1]))
    num_comparators = comparator_BC.shape[1]
    gen_BRC = score_BR[:, :, None].expand(-1, -1, num_comparators)
    other_BRC = comparator_BC[:, None, :].expand(-1, num_noises, -1)
    if reading == "hinge_cost":
        return -(other_BRC - gen_BRC + margin).clamp(min=0.0).sum(dim=2)
    if reading == "swapped":
        return (gen_BRC - other_BRC).clamp(min=0.0).sum(dim=2) + margin
    if reading == "literal":
        return (other_BRC - gen_BRC).clamp(min=0.0).sum(dim=2) + margin
    if reading == "rank":
        return 1.0 - compute_ranks(score_BR, comparator_BC)
    raise ValueError(f"reward reading is {reading!r}, but it must be one of: hinge_cost, swapped, literal, rank.")


def compute_ranks(score_BR: Tensor, comparator_BC: Tensor) -> Tensor:
    """Rank each generated score among the comparators -> (B, R) floats, 1 = best; ties count against the generated image."""
    check_shape("comparator", comparator_BC, (score_BR.shape[0], comparator_BC.shape[1]))
    ahead_BRC = comparator_BC[:, None, :] >= score_BR[:, :, None]
    return 1.0 + ahead_BRC.sum(dim=2).to(score_BR.dtype)


def compute_advantages(reward_BR: Tensor, center_B: Tensor, *, baseline: Baseline) -> Tensor:
    """Subtract the baseline -> (B, R): the case's `mean` (needs R >= 2), the unperturbed image's reward (`center`) or nothing."""
    check_shape("center", center_B, reward_BR.shape[:1])
    if baseline == "none":
        return reward_BR
    if baseline == "center":
        return reward_BR - center_B[:, None]
    if baseline == "mean":
        if reward_BR.shape[1] < 2:
            raise ValueError("baseline `mean` needs at least 2 perturbations; use `center` or `none` with one.")
        return reward_BR - reward_BR.mean(dim=1, keepdim=True)
    raise ValueError(f"baseline is {baseline!r}, but it must be one of: mean, center, none.")


def compute_mean_rank(score_B: Tensor, comparator_BC: Tensor) -> float:
    """Average the unperturbed image's rank among (reference, global, generated); 1.0 is best, 3.0 worst."""
    return float(compute_ranks(score_B[:, None], comparator_BC).mean())


def check_finite(name: str, values: Tensor) -> None:
    """Raise ValueError if a score is NaN or infinite: it would silently end training."""
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} holds {int((~torch.isfinite(values)).sum())} values that are not finite.")
