"""The balance of words and look. Run: python -m pytest tests/pipeline/conditioning/test_look_balance.py"""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.conditioning.look_balance import MAX_LOG_FACTOR, LookBalance, find_directions


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_an_untrained_balance_changes_neither_look_nor_guidance() -> None:
    balance, tokens = LookBalance(draw(4, 2, 6), torch.zeros(2, 6)), draw(3, 2, 6, seed=1)
    action = balance(tokens, draw(3, 5, 6, seed=2), torch.ones(3, 5, dtype=torch.bool))
    assert action.shape == (3, 6)
    setting = balance.set_look(tokens, action)
    assert torch.equal(setting.tokens, tokens)
    assert setting.words.tolist() == setting.look.tolist() == [1.0] * 3


@torch.no_grad()
def test_an_action_shifts_the_tokens_along_its_directions_and_scales_both_parts_of_guidance() -> None:
    directions, tokens = draw(2, 2, 6), draw(1, 2, 6, seed=1)
    setting = LookBalance(directions, torch.zeros(2, 6)).set_look(tokens, torch.tensor([[0.5, -2.0, 0.1, 100.0]]))
    torch.testing.assert_close(setting.tokens[0], tokens[0] + 0.5 * directions[0] - 2 * directions[1])
    assert setting.words.item() == pytest.approx(math.exp(0.1), abs=1e-3)
    assert setting.look.item() == pytest.approx(math.exp(MAX_LOG_FACTOR))  # however far a training runs


def test_directions_are_principal_components_as_long_as_the_deviation_in_them() -> None:
    tokens = draw(50, 2, 3) * torch.tensor([9.0, 1.0, 0.1]) + 7
    directions = find_directions(tokens, count=4)
    assert directions.shape == (4, 2, 3)
    centered = (tokens - tokens.mean(dim=0)).flatten(1)
    lengths = directions.flatten(1).norm(dim=1)
    assert lengths.tolist() == sorted(lengths.tolist(), reverse=True)
    for direction, length in zip(directions.flatten(1), lengths, strict=True):
        assert (centered @ direction / length).std().item() == pytest.approx(length.item(), rel=1e-4)


def test_there_are_no_more_directions_than_looks_differ_in() -> None:
    assert len(find_directions(draw(3, 2, 6), count=16)) == 2  # three points lie in a plane
    assert len(find_directions(torch.ones(5, 2, 6), count=16)) == 1
