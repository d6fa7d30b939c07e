"""How much an item's look counts, by numbers worked out by hand. Run: python -m pytest tests/pipeline/looks"""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.looks.weights import compute_agreement, compute_look_weights

LOOKS = torch.tensor([[3.0, 0.0], [0.5, 0.0], [0.0, 2.0]])  # two alike, one of another hand


def test_weights_are_the_softmax_of_similarity_over_temperature() -> None:
    weights = compute_look_weights(torch.tensor([0.5, 0.25, 0.0]), LOOKS, temperature=0.125, consensus=0.0)
    total = math.exp(4) + math.exp(2) + 1
    torch.testing.assert_close(weights, torch.tensor([math.exp(4), math.exp(2), 1.0]) / total)


def test_agreement_is_the_weighted_mean_cosine_with_the_others() -> None:
    agreement = compute_agreement(torch.tensor([0.5, 0.3, 0.2]), LOOKS)
    torch.testing.assert_close(agreement, torch.tensor([0.3 / 0.5, 0.5 / 0.7, 0.0]))


def test_consensus_moves_weight_to_items_that_agree_and_leaves_a_single_item_alone() -> None:
    plain, agreed = (compute_look_weights(torch.zeros(3), LOOKS, temperature=1.0, consensus=strength) for strength in (0.0, 2.0))
    assert plain.tolist() == pytest.approx([1 / 3] * 3)
    both = math.exp(2 * 0.5)  # each of the two agrees with one of its two others
    torch.testing.assert_close(agreed, torch.tensor([both, both, 1.0]) / (2 * both + 1))
    assert compute_look_weights(torch.zeros(1), LOOKS[:1], temperature=1.0, consensus=2.0).tolist() == [1.0]
