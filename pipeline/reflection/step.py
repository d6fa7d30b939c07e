"""One optimiser step of reflection: losses of a batch of cases, their separate gradients, and the numbers that are logged (paper: eq. 10-15).

The gradient of every loss is taken on its own and the weighted sum is what the optimiser sees, so that the logged norms are those
of the three losses and cost no second forward pass. Sampling runs without gradients: eq. 12 needs scores, not their derivative.

Shapes: B cases, R perturbations, K = 1 + R images per case, C comparators (reference, global), T rows of P^gen, S tokens of an encoded
prompt, D token width, V feature width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipeline.conditioning.calibrator import GeneralPreference
from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
from pipeline.models.protocols import ImageEncoder
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.losses import (
    compute_calibration,
    compute_calibration_loss,
    compute_literal_semantic_loss,
    compute_rank_loss,
    compute_semantic_loss,
)
from pipeline.reflection.policy import build_actions, choose_rows, draw_images, draw_noise, encode_drawings
from pipeline.reflection.reward import check_finite, compute_advantages, compute_mean_rank, compute_rewards, compute_z_scores
from pipeline.side_by_side import compute_side_by_side

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion, LookPrompt
    from pipeline.ranker.scoring import RankerScorer


@dataclass(frozen=True)
class ReflectionTools:
    """The frozen models that a step uses."""

    diffusion: Diffusion
    encoder: ImageEncoder
    ranker: RankerScorer
    project: Callable[[Tensor], Tensor]  # the text encoder's frozen map of a pooled state (B, D) to the space of P^ret (B, V)
    see: Callable[[Tensor], Tensor] | None = None  # pixels (B, 3, H, W) in [0, 1] to that space (B, V), differentiable


@dataclass(frozen=True)
class CaseBatch:
    """Cached, frozen facts of some cases, in the same order everywhere."""

    case_ids: tuple[str, ...]
    user_ids: tuple[str, ...]
    reference_ids: tuple[str, ...]
    inputs: ConditionInputs
    caption_BSD: Tensor  # token states of what eq. 14 is about: the reference's caption, or beside a look its text
    semantic_BV: Tensor  # E_N^sem, the reference's vector of eq. 2
    retrieved_BV: Tensor  # P^ret, zeros where the case has none
    has_retrieved_B: Tensor  # bool
    comparator_BC: Tensor  # standardised scores of the reference's own image and of the global image
    mean_B: Tensor  # of the user's scores over the catalogue
    std_B: Tensor

    def select(self, indices: list[int]) -> CaseBatch:
        """Return the cases at `indices`, in that order."""
        names = {name: tuple(getattr(self, name)[i] for i in indices) for name in ("case_ids", "user_ids", "reference_ids")}
        tensor_names = ("caption_BSD", "semantic_BV", "retrieved_BV", "has_retrieved_B", "comparator_BC", "mean_B", "std_B")
        tensors = {name: getattr(self, name)[indices] for name in tensor_names}
        return CaseBatch(**names, **tensors, inputs=self.inputs.select(indices))


def score_prompts(
    prompt_BKTD: Tensor, batch: CaseBatch, tools: ReflectionTools, config: ReflectionConfig, *, seed: int, look: LookPrompt | None = None
) -> Tensor:
    """Draw an image for every prompt and score it in place of the reference's -> standardised scores (B, K)."""
    images = draw_images(
        tools.diffusion,
        prompt_BKTD,
        batch.case_ids,
        seed=seed,
        steps=config.reward_steps,
        guidance_scale=config.reward_guidance,
        batch_size=config.draw_batch,
        look=look,
    )
    features_BKV = encode_drawings(tools.encoder, images)
    score_BK = score_features(features_BKV, batch.user_ids, batch.reference_ids, tools.ranker)
    return compute_z_scores(score_BK, batch.mean_B, batch.std_B)


def score_features(features_BKV: Tensor, user_ids: tuple[str, ...], reference_ids: tuple[str, ...], ranker: RankerScorer) -> Tensor:
    """Score K features per case, each put in the place of the reference's image feature (eq. 10) -> raw scores (B, K)."""
    num_cases, num_images = features_BKV.shape[:2]
    users = [user_id for user_id in user_ids for _ in range(num_images)]
    references = [item_id for item_id in reference_ids for _ in range(num_images)]
    # cloned: an inference tensor cannot take part in the loss
    score_N = ranker.score_substituted(users, references, features_BKV.flatten(0, 1)).float().clone()
    check_finite("the ranker's scores", score_N)
    return score_N.reshape(num_cases, num_images).cpu()


def compute_losses(
    preference: GeneralPreference,
    batch: CaseBatch,
    tools: ReflectionTools,
    config: ReflectionConfig,
    *,
    noise_BRTD: Tensor | None = None,
    advantage_BR: Tensor | None = None,
    estimate_BV: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the losses that apply: `rank` with perturbations, `calibration` for cases that have P^ret, `semantic` always.

    `estimate_BV` is what the encoder sees in one-step estimates of the images, where eq. 13 compares those.
    """
    prompt_BTD, pool_mask_BT = preference.prompt_BTD, preference.pool_mask_BT
    losses: dict[str, Tensor] = {}
    if noise_BRTD is not None and advantage_BR is not None:
        mask_BT = choose_rows(prompt_BTD, pool_mask_BT, config.perturbed_rows)
        losses["rank"] = compute_rank_loss(
            prompt_BTD, noise_BRTD.to(prompt_BTD), advantage_BR.to(prompt_BTD), mask_BT, sigma=config.sigma, reading=config.policy
        )
    known_B = batch.has_retrieved_B.to(prompt_BTD.device)
    if known_B.any() and estimate_BV is not None:
        losses["calibration"] = compute_calibration_loss(estimate_BV[known_B], batch.retrieved_BV.to(estimate_BV)[known_B])
    elif known_B.any():
        rows_BT = torch.ones_like(pool_mask_BT) if config.calibration == "literal" else pool_mask_BT
        losses["calibration"] = compute_calibration(
            prompt_BTD[known_B], batch.retrieved_BV.to(prompt_BTD)[known_B], rows_BT[known_B], reading=config.calibration, project=tools.project
        )
    if config.semantic == "literal":
        losses["semantic"] = compute_literal_semantic_loss(preference.detailed_BTD, batch.semantic_BV.to(prompt_BTD), preference.detailed_mask_BT)
    else:
        losses["semantic"] = compute_semantic_loss(preference.mapped_BKD, batch.caption_BSD.to(prompt_BTD))
    return losses


def observe_step(
    conditioner: Conditioner, batch: CaseBatch, tools: ReflectionTools, config: ReflectionConfig, *, seed: int, step: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Compute the batch's losses (with gradient) and the numbers to log; the randomness of a step follows from (seed, step)."""
    preference = conditioner(batch.inputs)
    if config.num_perturbations == 0:
        return compute_losses(preference, batch, tools, config), {}
    mask_BT = choose_rows(preference.prompt_BTD, preference.pool_mask_BT, config.perturbed_rows)
    noise_BRTD = draw_noise(
        mask_BT,
        preference.prompt_BTD.shape[2],
        batch.case_ids,
        num_noises=config.num_perturbations,
        sigma=config.sigma,
        seed=seed,
        step=step,
    )
    score_BK = score_prompts(build_actions(preference.prompt_BTD, noise_BRTD), batch, tools, config, seed=seed)
    reward_BK = compute_rewards(score_BK, batch.comparator_BC, margin=config.margin, reading=config.reward)
    advantage_BR = compute_advantages(reward_BK[:, 1:], reward_BK[:, 0], baseline=config.baseline)
    losses = compute_losses(preference, batch, tools, config, noise_BRTD=noise_BRTD, advantage_BR=advantage_BR)
    return losses, describe_scores(score_BK, reward_BK, batch)


def describe_scores(score_BK: Tensor, reward_BK: Tensor, batch: CaseBatch) -> dict[str, float]:
    """Return what is logged of a step's images, the unperturbed one first."""
    return {
        "reward": float(reward_BK[:, 1:].mean()),
        "score": float(score_BK[:, 0].mean()),
        "score_reference": float(batch.comparator_BC[:, 0].mean()),
        "score_global": float(batch.comparator_BC[:, 1].mean()),
        "mean_rank": compute_mean_rank(score_BK[:, 0], batch.comparator_BC),
    }


def set_gradients(losses: dict[str, Tensor], parameters: list[nn.Parameter], config: ReflectionConfig) -> dict[str, float]:
    """Set every parameter's gradient to the weighted sum of eq. 15, clipped; return loss values and gradient norms."""
    scales = config.list_scales()
    total: list[Tensor | None] = [None] * len(parameters)
    logged = {"loss": sum(scales[name] * float(loss.detach()) for name, loss in losses.items())}

    def differentiate(loss: Tensor) -> tuple[Tensor | None, ...]:
        if not loss.requires_grad:  # it reaches nothing that is trained
            return (None,) * len(parameters)
        return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)

    for (name, loss), gradients in zip(losses.items(), compute_side_by_side(differentiate, list(losses.values())), strict=True):
        logged[f"loss_{name}"] = float(loss.detach())
        logged[f"grad_{name}"] = compute_norm(gradients)
        for index, gradient in enumerate(gradients):
            if gradient is not None and scales[name]:
                scaled = scales[name] * gradient
                total[index] = scaled if total[index] is None else total[index] + scaled
    for parameter, gradient in zip(parameters, total, strict=True):
        parameter.grad = gradient
    logged["grad"] = float(nn.utils.clip_grad_norm_(parameters, config.clip_norm))
    if not math.isfinite(logged["grad"]):
        raise ValueError(f"the gradient's norm is {logged['grad']}; lower reflection.learning_rate or reflection.rank_scale.")
    return logged


def compute_norm(gradients: tuple[Tensor | None, ...]) -> float:
    """Compute the Euclidean norm over all gradients that are there."""
    squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


@torch.no_grad()
def validate(conditioner: Conditioner, batch: CaseBatch, tools: ReflectionTools, config: ReflectionConfig, *, seed: int) -> dict[str, float]:
    """Score the unperturbed images of the validation cases."""
    prompt_B1TD = conditioner(batch.inputs).prompt_BTD[:, None]
    score_B1 = score_prompts(prompt_B1TD, batch, tools, config, seed=seed)
    return describe_validation(score_B1, batch, config)


def describe_validation(score_B1: Tensor, batch: CaseBatch, config: ReflectionConfig) -> dict[str, float]:
    """Return what is logged of the validation cases' images."""
    reward_B1 = compute_rewards(score_B1, batch.comparator_BC, margin=config.margin, reading=config.reward)
    return {
        "validation_score": float(score_B1.mean()),
        "validation_reward": float(reward_B1.mean()),
        "validation_rank": compute_mean_rank(score_B1[:, 0], batch.comparator_BC),
    }
