"""The ranker's losses against worked numbers and MICRO's own formula. Run: python -m pytest tests/pipeline/ranker/test_losses.py"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.ranker import graph
from pipeline.ranker.losses import MIN_TEMPERATURE, compute_bpr_loss, compute_contrastive_loss, compute_regularisation
from tests.pipeline.ranker.test_graph import LargestTensor


def make_views(num_items: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(num_items, 4, dtype=torch.float64, generator=generator) for _ in range(2))


def compute_oracle(view_ND: Tensor, fused_ND: Tensor, temperature: float) -> Tensor:
    """InfoNCE per item as MICRO writes it, on full similarity matrices."""
    view_ND, fused_ND = (x / x.norm(dim=1, keepdim=True) for x in (view_ND, fused_ND))
    within_NN, between_NN = torch.exp(view_ND @ view_ND.T / temperature), torch.exp(view_ND @ fused_ND.T / temperature)
    return -torch.log(between_NN.diag() / (within_NN.sum(1) + between_NN.sum(1) - within_NN.diag()))


def test_bpr_of_a_margin_of_one_and_of_none() -> None:
    loss = compute_bpr_loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0]))
    assert float(loss) == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2)


def test_regularisation_is_half_the_squares_over_the_batch() -> None:
    assert float(compute_regularisation(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))) == 0.5 * 27 / 2


def test_the_contrastive_loss_is_micros_over_all_items() -> None:
    view_ND, fused_ND = make_views()
    loss = compute_contrastive_loss(view_ND, fused_ND, torch.arange(12), temperature=0.5)
    torch.testing.assert_close(loss, compute_oracle(view_ND, fused_ND, 0.5).mean())


def test_sampled_anchors_still_meet_all_items() -> None:
    view_ND, fused_ND = make_views()
    anchor_A = torch.tensor([2, 7, 8])
    loss = compute_contrastive_loss(view_ND, fused_ND, anchor_A, temperature=0.5)
    torch.testing.assert_close(loss, compute_oracle(view_ND, fused_ND, 0.5)[anchor_A].mean())


def differentiate(compute_loss: Callable[[Tensor, Tensor], Tensor], view_ND: Tensor, fused_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return a loss and three times its gradients."""
    view_ND, fused_ND = (x.clone().requires_grad_() for x in (view_ND, fused_ND))
    loss = compute_loss(view_ND, fused_ND)
    (3.0 * loss).backward()
    return loss.detach(), torch.stack([view_ND.grad, fused_ND.grad])


@pytest.mark.parametrize(
    ("temperature", "atol"), [(0.5, 1e-13), (MIN_TEMPERATURE, 1e-12), (MIN_TEMPERATURE / 2, 1e-8)]
)  # the formula subtracts exp(1 / temperature)
@pytest.mark.parametrize("num_anchors_held", [1, 7, 100])
def test_all_items_in_blocks_have_the_value_and_the_gradient_of_micros_formula(
    monkeypatch: pytest.MonkeyPatch, num_anchors_held: int, temperature: float, atol: float
) -> None:
    monkeypatch.setattr(graph, "BLOCK_ELEMENTS", 2 * 40 * num_anchors_held)
    views = make_views(40)
    loss, gradients = differentiate(lambda *pair: compute_contrastive_loss(*pair, temperature=temperature), *views)
    expected, expected_gradients = differentiate(lambda *pair: compute_oracle(*pair, temperature).mean(), *views)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=atol)


@pytest.mark.parametrize("num_items_held", [1, 4, 11])
def test_sampled_anchors_in_blocks_have_the_value_and_the_gradient_of_micros_formula(monkeypatch: pytest.MonkeyPatch, num_items_held: int) -> None:
    monkeypatch.setattr(graph, "BLOCK_ELEMENTS", 5 * num_items_held)
    views, anchor_A = make_views(), torch.tensor([0, 2, 5, 6, 11])
    loss, gradients = differentiate(lambda *pair: compute_contrastive_loss(*pair, anchor_A, temperature=0.5), *views)
    expected, expected_gradients = differentiate(lambda *pair: compute_oracle(*pair, 0.5)[anchor_A].mean(), *views)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=1e-13)


def test_all_items_in_single_precision_are_as_exact_as_micros_formula() -> None:
    single_ND, exact_ND = [x.float() for x in make_views(500)], make_views(500)
    loss, gradients = differentiate(lambda *pair: compute_contrastive_loss(*pair, temperature=0.5), *single_ND)
    expected, expected_gradients = differentiate(lambda *pair: compute_oracle(*pair, 0.5).mean(), *exact_ND)
    assert float(loss) == pytest.approx(float(expected), rel=2e-7)
    assert (gradients - expected_gradients).abs().max() < 1e-6 * expected_gradients.abs().max()


@pytest.mark.parametrize("anchor_A", [None, torch.arange(0, 900, 3)], ids=["all", "sample"])
def test_no_tensor_of_the_loss_grows_with_the_square_of_the_catalogue(monkeypatch: pytest.MonkeyPatch, anchor_A: Tensor | None) -> None:
    monkeypatch.setattr(graph, "BLOCK_ELEMENTS", 1 << 14)
    view_ND, fused_ND = (x.requires_grad_() for x in make_views(900))
    with LargestTensor() as largest:
        compute_contrastive_loss(view_ND, fused_ND, anchor_A, temperature=0.5).backward()
    assert largest.numel <= 1 << 14  # all items by all items would be 810,000, by the sample 270,000


def test_a_small_temperature_does_not_overflow() -> None:
    view_ND, fused_ND = (x.float().requires_grad_() for x in make_views())
    loss = compute_contrastive_loss(view_ND, fused_ND, torch.arange(12), temperature=0.005)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(view_ND.grad).all()
