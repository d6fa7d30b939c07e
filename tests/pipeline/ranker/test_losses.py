"""The ranker's losses against worked numbers and MICRO's own formula. Run: python -m pytest tests/pipeline/ranker/test_losses.py"""

import math

import pytest
import torch
from torch import Tensor

from pipeline.ranker import graph
from pipeline.ranker.losses import compute_bpr_loss, compute_contrastive_loss, compute_regularisation


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


def test_blocks_change_neither_value_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for block_elements in (1 << 22, 30):
        monkeypatch.setattr(graph, "BLOCK_ELEMENTS", block_elements)
        view_ND, fused_ND = (x.requires_grad_() for x in make_views())
        loss = compute_contrastive_loss(view_ND, fused_ND, torch.arange(12), temperature=0.5)
        loss.backward()
        gradients.append(torch.stack([view_ND.grad, fused_ND.grad]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-14)


def test_a_small_temperature_does_not_overflow() -> None:
    view_ND, fused_ND = (x.float().requires_grad_() for x in make_views())
    loss = compute_contrastive_loss(view_ND, fused_ND, torch.arange(12), temperature=0.005)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(view_ND.grad).all()
