"""One optimiser step of reflection where look tokens stand beside P^gen (`preference.visual_tokens`), an extension of ours (paper: eq. 10-15).

Departures from the step without them (`pipeline/reflection/step.py`):
1. Eq. 12 explores what is done to the look (`pipeline/reflection/look_policy.py`), and P^gen is left alone.
2. Eq. 13 compares like with like: the encoder's feature of a one-step estimate of the image with P^ret, which is a mean of such features.
3. The target of eq. 14 is the item's own text: a caption also says how the reference looks now.

Shapes: B cases, R perturbations, K = 1 + R images per case, T rows of P^gen, D token width, V feature width, M look tokens, A numbers of an action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.conditioning.calibrator import GeneralPreference
from pipeline.conditioning.conditioner import Conditioner
from pipeline.conditioning.look_balance import LookBalance, LookSetting
from pipeline.models.diffusion import LookPrompt
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.look_policy import build_look_actions, compute_look_rank_loss, draw_pairs, set_looks
from pipeline.reflection.policy import estimate_images
from pipeline.reflection.reward import compute_advantages, compute_rewards
from pipeline.reflection.step import CaseBatch, ReflectionTools, compute_losses, describe_scores, describe_validation, score_prompts


def observe_look_step(
    conditioner: Conditioner, batch: CaseBatch, tools: ReflectionTools, config: ReflectionConfig, *, seed: int, step: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Compute the batch's losses (with gradient) and the numbers to log; the randomness of a step follows from (seed, step)."""
    preference = conditioner(batch.inputs)
    balance, tokens_BMD, action_BA = get_look(conditioner, preference)
    estimate_BV = None
    if config.calibration != "literal" and tools.see is not None:
        look = build_prompt(balance.set_look(tokens_BMD, action_BA), balance, config)
        estimate_BV = tools.see(estimate_images(tools.diffusion, preference.prompt_BTD, batch.case_ids, look, config, seed=seed))
    losses = compute_losses(preference, batch, tools, config, estimate_BV=estimate_BV)
    if config.num_perturbations == 0:
        return losses, {}
    noise_BRA = draw_pairs(action_BA.shape[1], batch.case_ids, num_noises=config.num_perturbations, sigma=config.look_sigma, seed=seed, step=step)
    actions_BKA = build_look_actions(action_BA, noise_BRA)
    score_BK = score_looks(balance, preference, actions_BKA, batch, tools, config, seed=seed)
    reward_BK = compute_rewards(score_BK, batch.comparator_BC, margin=config.margin, reading=config.reward)
    advantage_BR = compute_advantages(reward_BK[:, 1:], reward_BK[:, 0], baseline=config.baseline)
    rank = compute_look_rank_loss(action_BA, noise_BRA.to(action_BA), advantage_BR.to(action_BA), sigma=config.look_sigma, reading=config.policy)
    return {"rank": rank, **losses}, describe_scores(score_BK, reward_BK, batch)


def score_looks(
    balance: LookBalance,
    preference: GeneralPreference,
    actions_BKA: Tensor,
    batch: CaseBatch,
    tools: ReflectionTools,
    config: ReflectionConfig,
    *,
    seed: int,
) -> Tensor:
    """Score the images of one P^gen under K actions on the look -> standardised scores (B, K)."""
    tokens_BMD = preference.tokens_BMD
    assert tokens_BMD is not None
    look = build_prompt(set_looks(balance, tokens_BMD, actions_BKA).flatten(), balance, config)
    prompt_BKTD = preference.prompt_BTD.detach()[:, None].expand(-1, actions_BKA.shape[1], -1, -1)
    return score_prompts(prompt_BKTD, batch, tools, config, seed=seed, look=look)


def build_prompt(setting: LookSetting, balance: LookBalance, config: ReflectionConfig) -> LookPrompt:
    """Put look tokens behind the words of images that are only scored."""
    return LookPrompt(setting.tokens, balance.no_look_MD, config.reward_look * setting.look, setting.words)


@torch.no_grad()
def validate_look(conditioner: Conditioner, batch: CaseBatch, tools: ReflectionTools, config: ReflectionConfig, *, seed: int) -> dict[str, float]:
    """Score the unperturbed images of the validation cases."""
    preference = conditioner(batch.inputs)
    balance, _, action_BA = get_look(conditioner, preference)
    return describe_validation(score_looks(balance, preference, action_BA[:, None], batch, tools, config, seed=seed), batch, config)


def get_look(conditioner: Conditioner, preference: GeneralPreference) -> tuple[LookBalance, Tensor, Tensor]:
    """Return the balance, the look tokens (B, M, D) and the actions (B, A) of a conditioner that has them."""
    balance, tokens_BMD, action_BA = conditioner.look, preference.tokens_BMD, preference.action_BA
    assert balance is not None, "a conditioner without look tokens takes the other step"
    assert tokens_BMD is not None
    assert action_BA is not None
    return balance, tokens_BMD, action_BA
