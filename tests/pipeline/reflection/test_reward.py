"""Equations 10-11 against worked numbers, and the sign of the reward. Run: `python -m pytest tests/pipeline/reflection/test_reward.py`."""

from __future__ import annotations

import pytest
import torch

from pipeline.reflection import reward
from pipeline.reflection.losses import compute_log_density, compute_rank_loss

GEN = torch.tensor([[0.5, 1.3]])  # two perturbations
OTHERS = torch.tensor([[1.0, 0.2]])  # reference, global


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ("hinge_cost", [-0.6, 0.0]),  # 0.6 + 0; both hinges closed beyond the margin
        ("swapped", [0.4, 1.5]),  # 0 + 0.3 + 0.1; 0.3 + 1.1 + 0.1
        ("literal", [0.6, 0.1]),  # 0.5 + 0 + 0.1; 0 + 0 + 0.1
        ("rank", [-1.0, 0.0]),  # second and first of three
    ],
)
def test_reward_readings_have_the_values_computed_by_hand(reading: str, expected: list[float]) -> None:
    torch.testing.assert_close(reward.compute_rewards(GEN, OTHERS, margin=0.1, reading=reading), torch.tensor([expected]))


def test_ties_count_against_the_generated_image() -> None:
    assert reward.compute_ranks(torch.tensor([[1.0, 0.2, 2.0]]), OTHERS).tolist() == [[2.0, 3.0, 1.0]]


def test_scores_are_standardised_per_user() -> None:
    z_BK = reward.compute_z_scores(torch.tensor([[1.0, 3.0], [10.0, 30.0]]), torch.tensor([2.0, 20.0]), torch.tensor([0.5, 5.0]))
    torch.testing.assert_close(z_BK, torch.tensor([[-2.0, 2.0], [-2.0, 2.0]]))


def test_a_user_to_whom_all_items_are_equal_rewards_nothing() -> None:
    z_BK = reward.compute_z_scores(torch.tensor([[1.0, 3.0]]), torch.tensor([1.0]), torch.tensor([0.0]))
    assert z_BK.tolist() == [[0.0, 0.0]]


def test_baselines_subtract_the_mean_or_the_unperturbed_reward() -> None:
    reward_BR = torch.tensor([[1.0, 3.0]])
    center_B = torch.tensor([2.5])
    assert reward.compute_advantages(reward_BR, center_B, baseline="mean").tolist() == [[-1.0, 1.0]]
    assert reward.compute_advantages(reward_BR, center_B, baseline="center").tolist() == [[-1.5, 0.5]]
    assert reward.compute_advantages(reward_BR, center_B, baseline="none").tolist() == [[1.0, 3.0]]


def test_mean_baseline_needs_two_perturbations() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        reward.compute_advantages(torch.ones(1, 1), torch.ones(1), baseline="mean")


@pytest.mark.parametrize("shape", [(2, 2), (1,)])
def test_rewards_refuse_to_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, IndexError)):
        reward.compute_rewards(torch.ones(1, 3), torch.ones(shape), margin=0.1)


def test_unknown_reward_is_named_with_the_choices() -> None:
    with pytest.raises(ValueError, match="hinge_cost, swapped, literal, rank"):
        reward.compute_rewards(GEN, OTHERS, margin=0.1, reading="other")


def is_better_action_made_likelier(reading: str, baseline: str, *, num_noises: int = 4) -> bool:
    """Take one gradient step on P^gen with some perturbations, and compare the change of log density of the best- and worst-scored."""
    generator = torch.Generator().manual_seed(3)
    prompt_BTD = torch.randn(1, 3, 4, generator=generator).requires_grad_()
    noise_BRTD = 0.1 * torch.randn(1, num_noises, 3, 4, generator=generator)
    taste_D = torch.randn(4, generator=generator)
    mask_BT = torch.ones(1, 3)
    action_BRTD = prompt_BTD.detach()[:, None] + noise_BRTD
    score_BR = action_BRTD.mean(dim=2) @ taste_D
    center_B = prompt_BTD.detach().mean(dim=1) @ taste_D
    others_BC = center_B[:, None] + torch.tensor([[2.0, 1.5]])  # both are liked more: the usual start
    reward_BR = reward.compute_rewards(score_BR, others_BC, margin=0.1, reading=reading)
    center_reward_B = reward.compute_rewards(center_B[:, None], others_BC, margin=0.1, reading=reading)[:, 0]
    advantage_BR = reward.compute_advantages(reward_BR, center_reward_B, baseline=baseline)
    compute_rank_loss(prompt_BTD, noise_BRTD, advantage_BR, mask_BT, sigma=0.1).backward()
    moved_BRTD = (prompt_BTD - 1e-4 * prompt_BTD.grad).detach()[:, None].expand(-1, num_noises, -1, -1)
    before_BRTD = prompt_BTD.detach()[:, None].expand(-1, num_noises, -1, -1)
    change_R = (compute_log_density(action_BRTD, moved_BRTD, mask_BT, sigma=0.1) - compute_log_density(action_BRTD, before_BRTD, mask_BT, sigma=0.1))[
        0
    ]
    score_after = (moved_BRTD[:, 0].mean(dim=1) @ taste_D).item()
    return bool(change_R[score_BR.argmax()] > change_R[score_BR.argmin()]) and score_after > center_B.item()


@pytest.mark.parametrize("baseline", ["mean", "center"])
def test_a_perturbation_that_raises_the_score_becomes_more_likely(baseline: str) -> None:
    assert is_better_action_made_likelier("hinge_cost", baseline)


@pytest.mark.parametrize("baseline", ["mean", "center"])
def test_the_literal_sign_fails_exactly_that(baseline: str) -> None:
    assert not is_better_action_made_likelier("literal", baseline)


@pytest.mark.parametrize(("reading", "is_right"), [("hinge_cost", True), ("literal", False)])
def test_without_a_baseline_the_same_holds_on_average_over_many_perturbations(reading: str, is_right: bool) -> None:
    assert is_better_action_made_likelier(reading, "none", num_noises=4000) == is_right


def test_the_swapped_reward_gives_no_signal_while_the_generated_image_is_behind() -> None:
    behind_BR = torch.tensor([[-1.0, -2.0]])
    assert reward.compute_rewards(behind_BR, OTHERS, margin=0.1, reading="swapped").tolist() == [[pytest.approx(0.1)] * 2]
