"""The three reflection losses and their sum, as pure functions that refuse to broadcast (paper: eq. 12-15).

Departures from the printed equations; 1, 3 and 4 have the literal reading as an option (conf/method/literal.yaml takes all of them):
1. Eq. 12: with the action P^gen + eps and the mean P^gen, the density has a gradient of exactly zero. The action is held fixed
   (`stop_gradient(P^gen) + eps`), so that the gradient of the log density at P^gen is eps / sigma^2.
2. Eq. 12: features are summed and rows averaged, so that the loss depends neither on padding nor on the prompt's length.
3. Eq. 13: P^gen is a sequence and P^ret one vector. The attention rows are averaged, taken through the text encoder's own frozen
   projection into the space of P^ret, and both sides are L2-normalised (the squared distance is then 2 - 2 cos).
4. Eq. 14: E^d contains the text part, the target is one vector. The mapper's output is compared with the text encoder's token
   states of the reference's caption, which have the same shape, by the mean squared error.
5. Eq. 13 and 14 print sums of squares. Means over rows and features are taken, also in the literal readings, so that beta and gamma
   do not depend on the prompt's length or on the width.

Shapes: B cases, R perturbations, T rows of P^gen, S tokens of the text encoder, D token width, V width of the joint space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.reflection.config import CalibrationReading, PolicyReading


def check_shape(name: str, tensor: Tensor, expected: Sequence[int]) -> None:
    """Raise ValueError unless `tensor` has exactly the shape `expected`; losses never broadcast."""
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, but {tuple(expected)} is needed.")


def compute_log_density(action_BRTD: Tensor, mean_BRTD: Tensor, mask_BT: Tensor, *, sigma: float) -> Tensor:
    """Compute log N(action; mean, sigma^2 I) up to a constant: summed over features, averaged over the rows of `mask_BT` -> (B, R)."""
    check_shape("mean", mean_BRTD, action_BRTD.shape)
    check_shape("mask", mask_BT, (action_BRTD.shape[0], action_BRTD.shape[2]))
    row_BRT = -(action_BRTD - mean_BRTD).square().sum(dim=3) / (2.0 * sigma**2)
    weight_B1T = mask_BT.to(row_BRT.dtype)[:, None, :]
    return (row_BRT * weight_B1T).sum(dim=2) / weight_B1T.sum(dim=2).clamp(min=1.0)


def compute_rank_loss(
    prompt_BTD: Tensor,
    noise_BRTD: Tensor,
    advantage_BR: Tensor,
    mask_BT: Tensor,
    *,
    sigma: float,
    reading: PolicyReading = "score_function",
) -> Tensor:
    """Compute eq. 12: minus the mean over perturbations of log pi(P^gen + noise) times the reward, averaged over cases -> ().

    `score_function` holds the action fixed; `literal` lets the gradient through action and mean (it cancels to zero);
    `standard_normal` reads the density as that of N(0, I), which only rescales P^gen.
    """
    num_cases, num_rows, width = prompt_BTD.shape
    num_noises = noise_BRTD.shape[1]
    check_shape("noise", noise_BRTD, (num_cases, num_noises, num_rows, width))
    check_shape("advantage", advantage_BR, (num_cases, num_noises))
    mean_BRTD = prompt_BTD[:, None].expand(-1, num_noises, -1, -1)
    if reading == "score_function":
        log_BR = compute_log_density(mean_BRTD.detach() + noise_BRTD, mean_BRTD, mask_BT, sigma=sigma)
    elif reading == "literal":
        log_BR = compute_log_density(mean_BRTD + noise_BRTD, mean_BRTD, mask_BT, sigma=sigma)
    elif reading == "standard_normal":
        log_BR = compute_log_density(mean_BRTD + noise_BRTD, torch.zeros_like(noise_BRTD), mask_BT, sigma=1.0)
    else:
        raise ValueError(f"policy reading is {reading!r}, but it must be one of: score_function, literal, standard_normal.")
    return -(log_BR * advantage_BR.detach()).mean()


def pool_rows(prompt_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Average the rows of `mask_BT` -> (B, D); a case without any row gives zeros."""
    check_shape("mask", mask_BT, prompt_BTD.shape[:2])
    weight_BT1 = mask_BT.to(prompt_BTD.dtype)[:, :, None]
    return (prompt_BTD * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1).clamp(min=1.0)


def compute_calibration_loss(pooled_BV: Tensor, retrieved_BV: Tensor) -> Tensor:
    """Compute eq. 13 between the pooled, projected P^gen and P^ret, both L2-normalised here: mean over cases of 2 - 2 cos -> ()."""
    check_shape("retrieved", retrieved_BV, pooled_BV.shape)
    distance_BV = functional.normalize(pooled_BV, dim=1) - functional.normalize(retrieved_BV, dim=1)
    return distance_BV.square().sum(dim=1).mean()


def compute_literal_calibration_loss(prompt_BTD: Tensor, retrieved_BD: Tensor, mask_BT: Tensor) -> Tensor:
    """Compute eq. 13 as printed: every row of P^gen against the one vector P^ret, mean over rows and features -> ()."""
    check_shape("retrieved", retrieved_BD, (prompt_BTD.shape[0], prompt_BTD.shape[2]))
    return _compute_row_distance(prompt_BTD, retrieved_BD, mask_BT)


def compute_semantic_loss(mapped_BSD: Tensor, target_BSD: Tensor) -> Tensor:
    """Compute eq. 14: mean squared error between the mapper's output and the caption's token states -> ()."""
    check_shape("target", target_BSD, mapped_BSD.shape)
    return (mapped_BSD - target_BSD).square().mean()


def compute_literal_semantic_loss(detailed_BTD: Tensor, semantic_BD: Tensor, mask_BT: Tensor) -> Tensor:
    """Compute eq. 14 as printed: every row of E^d against the one vector E_N^sem, mean over rows and features -> ()."""
    check_shape("semantic", semantic_BD, (detailed_BTD.shape[0], detailed_BTD.shape[2]))
    return _compute_row_distance(detailed_BTD, semantic_BD, mask_BT)


def _compute_row_distance(row_BTD: Tensor, target_BD: Tensor, mask_BT: Tensor) -> Tensor:
    """Average the squared distance of the rows of `mask_BT` to their case's vector, which is expanded here and nowhere else."""
    check_shape("mask", mask_BT, row_BTD.shape[:2])
    distance_BT = (row_BTD - target_BD[:, None, :].expand(row_BTD.shape)).square().mean(dim=2)
    weight_BT = mask_BT.to(distance_BT.dtype)
    return (distance_BT * weight_BT).sum() / weight_BT.sum().clamp(min=1.0)


def compute_calibration(
    prompt_BTD: Tensor,
    retrieved_BV: Tensor,
    mask_BT: Tensor,
    *,
    reading: CalibrationReading,
    project: Callable[[Tensor], Tensor],
) -> Tensor:
    """Compute eq. 13 in the chosen reading; `project` is the text encoder's frozen map (B, D) -> (B, V)."""
    if reading == "pooled":
        return compute_calibration_loss(project(pool_rows(prompt_BTD, mask_BT)), retrieved_BV)
    if reading == "literal":
        return compute_literal_calibration_loss(prompt_BTD, retrieved_BV, mask_BT)
    raise ValueError(f"calibration reading is {reading!r}, but it must be one of: pooled, literal.")
