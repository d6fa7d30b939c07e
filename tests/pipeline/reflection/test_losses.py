"""Equations 12-15 against worked numbers, and their refusal to broadcast. Run: `python -m pytest tests/pipeline/reflection/test_losses.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal

from pipeline.reflection import losses
from tests.configs import REFLECTION

NOISE_BRTD = torch.tensor([[[[0.1, 0.2], [0.3, -0.1]]]])


def make_prompt() -> torch.Tensor:
    return torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], requires_grad=True)


def test_rank_loss_has_the_value_and_gradient_computed_by_hand() -> None:
    prompt_BTD = make_prompt()
    loss = losses.compute_rank_loss(prompt_BTD, NOISE_BRTD, torch.tensor([[2.0]]), torch.ones(1, 2), sigma=0.5)
    # rows: -0.05 / 0.5 = -0.1 and -0.10 / 0.5 = -0.2; their mean -0.15; times -2
    assert loss.item() == pytest.approx(0.3)
    loss.backward()
    # -advantage * noise / sigma^2 / rows = -4 * noise
    torch.testing.assert_close(prompt_BTD.grad, -4.0 * NOISE_BRTD[:, 0])


def test_log_density_is_the_normal_one_up_to_its_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    action, mean = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    ours_BR = losses.compute_log_density(action, mean, torch.ones(2, 4), sigma=0.3)
    normal_BR = (Normal(mean, 0.3).log_prob(action) - Normal(mean, 0.3).log_prob(mean)).sum(3).mean(2)
    # sums of 20 terms of size ~50 in float32
    torch.testing.assert_close(ours_BR, normal_BR, rtol=1e-4, atol=1e-4)


def test_masked_rows_change_neither_the_rank_loss_nor_its_gradient() -> None:
    prompt_BTD = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]], requires_grad=True)
    noise_BRTD = torch.cat([NOISE_BRTD, torch.full((1, 1, 1, 2), 7.0)], dim=2)
    loss = losses.compute_rank_loss(prompt_BTD, noise_BRTD, torch.tensor([[2.0]]), torch.tensor([[1, 1, 0]]), sigma=0.5)
    assert loss.item() == pytest.approx(0.3)
    loss.backward()
    assert prompt_BTD.grad is not None
    assert prompt_BTD.grad[0, 2].abs().max() == 0


def test_literal_log_density_has_no_gradient_at_all() -> None:
    prompt_BTD = make_prompt()
    loss = losses.compute_rank_loss(prompt_BTD, NOISE_BRTD, torch.tensor([[2.0]]), torch.ones(1, 2), sigma=0.5, reading="literal")
    # the same value as the score function's, up to the rounding of (P + noise) - P
    assert loss.item() == pytest.approx(0.3, rel=1e-5)
    loss.backward()
    assert prompt_BTD.grad is not None
    assert prompt_BTD.grad.abs().max() == 0


def test_standard_normal_reading_only_rescales_the_prompt() -> None:
    prompt_BTD = make_prompt()
    noise_BRTD = torch.zeros(1, 1, 2, 2)
    losses.compute_rank_loss(prompt_BTD, noise_BRTD, torch.tensor([[2.0]]), torch.ones(1, 2), sigma=0.5, reading="standard_normal").backward()
    torch.testing.assert_close(prompt_BTD.grad, prompt_BTD.detach())


def test_pooling_averages_only_the_masked_rows() -> None:
    prompt_BTD = torch.tensor([[[2.0, 0.0], [4.0, 2.0], [100.0, 100.0]], [[1.0, 1.0], [5.0, 5.0], [5.0, 5.0]]])
    pooled_BD = losses.pool_rows(prompt_BTD, torch.tensor([[1, 1, 0], [1, 0, 0]]))
    torch.testing.assert_close(pooled_BD, torch.tensor([[3.0, 1.0], [1.0, 1.0]]))


def test_calibration_loss_is_two_minus_two_cosines() -> None:
    pooled_BV = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    retrieved_BV = torch.tensor([[0.0, 2.0], [-3.0, 0.0]])
    # cosines 0.8 and -1: (0.4 + 4) / 2
    assert losses.compute_calibration_loss(pooled_BV, retrieved_BV).item() == pytest.approx(2.2)


def test_literal_calibration_loss_is_the_pooled_distance_plus_the_rows_variance() -> None:
    prompt_BTD = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(1))
    retrieved_BD = torch.randn(1, 4, generator=torch.Generator().manual_seed(2))
    literal = losses.compute_literal_calibration_loss(prompt_BTD, retrieved_BD, torch.ones(1, 6))
    mean_D = prompt_BTD[0].mean(dim=0)
    expected = (mean_D - retrieved_BD[0]).square().mean() + prompt_BTD[0].var(dim=0, unbiased=False).mean()
    torch.testing.assert_close(literal, expected)


def test_calibration_projects_the_pooled_rows() -> None:
    prompt_BTD = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    project = torch.tensor([[0.0, 1.0], [0.0, 0.0]])  # sends the first axis to the second
    loss = losses.compute_calibration(
        prompt_BTD, torch.tensor([[0.0, 5.0]]), torch.ones(1, 2), reading="pooled", project=lambda pooled_BD: pooled_BD @ project
    )
    assert loss.item() == pytest.approx(0.0)


def test_semantic_loss_is_the_mean_over_all_elements() -> None:
    assert losses.compute_semantic_loss(torch.tensor([[[1.0, 2.0]]]), torch.zeros(1, 1, 2)).item() == pytest.approx(2.5)


def test_literal_semantic_loss_compares_every_real_row_with_the_one_vector() -> None:
    detailed_BTD = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [9.0, 9.0]]])
    loss = losses.compute_literal_semantic_loss(detailed_BTD, torch.tensor([[1.0, 0.0]]), torch.tensor([[1, 1, 0]]))
    assert loss.item() == pytest.approx((4.0 / 2 + 4.0 / 2) / 2)


def test_the_scales_are_those_of_equation_15() -> None:
    scales = replace(REFLECTION, alpha=0.2, beta=0.5, gamma=0.3, rank_scale=10.0).list_scales()
    assert scales == {"rank": 2.0, "calibration": 0.5, "semantic": 0.3}


@pytest.mark.parametrize(
    "compute",
    [
        lambda: losses.compute_calibration_loss(torch.ones(2, 4), torch.ones(1, 4)),
        lambda: losses.compute_calibration_loss(torch.ones(2, 3, 4), torch.ones(2, 4)),
        lambda: losses.compute_literal_calibration_loss(torch.ones(2, 3, 4), torch.ones(1, 4), torch.ones(2, 3)),
        lambda: losses.compute_literal_calibration_loss(torch.ones(2, 3, 4), torch.ones(2, 4), torch.ones(2, 1)),
        lambda: losses.compute_literal_semantic_loss(torch.ones(2, 3, 4), torch.ones(1, 4), torch.ones(2, 3)),
        lambda: losses.compute_literal_semantic_loss(torch.ones(2, 3, 4), torch.ones(2, 4), torch.ones(2, 1)),
        lambda: losses.compute_semantic_loss(torch.ones(2, 3, 4), torch.ones(2, 4)),
        lambda: losses.compute_semantic_loss(torch.ones(2, 3, 4), torch.ones(2, 1, 4)),
        lambda: losses.compute_rank_loss(torch.ones(2, 3, 4), torch.ones(2, 5, 1, 4), torch.ones(2, 5), torch.ones(2, 3), sigma=1.0),
        lambda: losses.compute_rank_loss(torch.ones(2, 3, 4), torch.ones(2, 5, 3, 4), torch.ones(2, 1), torch.ones(2, 3), sigma=1.0),
        lambda: losses.compute_rank_loss(torch.ones(2, 3, 4), torch.ones(2, 5, 3, 4), torch.ones(2, 5), torch.ones(1, 3), sigma=1.0),
    ],
)
def test_losses_refuse_shapes_that_torch_would_broadcast(compute) -> None:
    with pytest.raises(ValueError, match="has shape"):
        compute()


def test_unknown_readings_are_named_with_the_choices() -> None:
    with pytest.raises(ValueError, match="score_function, literal, standard_normal"):
        losses.compute_rank_loss(make_prompt(), NOISE_BRTD, torch.ones(1, 1), torch.ones(1, 2), sigma=1.0, reading="other")
    with pytest.raises(ValueError, match="pooled, literal"):
        losses.compute_calibration(make_prompt(), torch.ones(1, 2), torch.ones(1, 2), reading="other", project=lambda x: x)
