"""Muon against torch's own on matrices, and on kernels against the matrix of them. Run: python -m pytest tests/embedded/test_muon.py"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from embedded.muon import Muon
from embedded.training import LoopConfig, build_optimisers


def run_steps(optimiser: torch.optim.Optimizer, parameter: Tensor) -> Tensor:
    """Make five steps with gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (8, 8)])
def test_it_moves_a_matrix_as_torch_does(shape: tuple[int, int]) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    moved = run_steps(Muon([ours], 0.02, weight_decay=0.1), ours)
    expected = run_steps(torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), theirs)
    assert torch.allclose(moved, expected, atol=1e-6)
    assert (moved - start).abs().max() > 0.01


def test_a_kernel_moves_as_the_matrix_of_its_output_channels() -> None:
    start = torch.randn((4, 3, 2, 2), generator=torch.Generator().manual_seed(1))
    kernel, matrix = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.flatten(1).clone())
    moved = run_steps(Muon([kernel], 0.02), kernel)
    assert torch.equal(moved.flatten(1), run_steps(Muon([matrix], 0.02), matrix))


def test_a_step_has_singular_values_near_a_common_one() -> None:
    parameter = torch.nn.Parameter(torch.zeros(16, 40))
    parameter.grad = torch.randn((16, 40), generator=torch.Generator().manual_seed(2))
    Muon([parameter], 1.0).step()
    values = torch.linalg.svdvals(parameter.detach()) / (0.2 * 40**0.5)
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_edges_biases_and_frozen_parts_are_not_its_business() -> None:
    module = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in ("conv_in", "middle", "frozen")})
    module["frozen"].requires_grad_(False)
    adamw, muon = build_optimisers(module, LoopConfig(steps=1, peak_rate=0.1, muon=True))
    assert [matrix.data_ptr() for matrix in muon.param_groups[0]["params"]] == [module["middle"].weight.data_ptr()]
    assert len(adamw.param_groups[0]["params"]) == 3
    assert len(build_optimisers(module, LoopConfig(steps=1, peak_rate=0.1))) == 1
