"""The two towers by worked numbers. Run: python -m pytest tests/pipeline/ranker_check/test_tower.py"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.ranker_check.config import TowerConfig
from pipeline.ranker_check.tower import ItemTower, compute_softmax_loss, score_items, sum_items


def test_an_item_is_the_formula_of_its_image_and_category() -> None:
    tower = ItemTower(num_features=2, num_categories=2, config=TowerConfig(embedding_dim=2, hidden_dim=2)).double()
    with torch.no_grad():
        tower.centre_F.copy_(torch.tensor([1.0, 1.0]))
        tower.image.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        tower.image.bias.copy_(torch.tensor([0.0, -0.3]))
        tower.category.weight.copy_(torch.tensor([[0.0, 0.0], [1.4, -9.0]]))
        tower.out.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        tower.out.bias.zero_()
    image_BF = torch.tensor([[4.0, 5.0], [4.0, 5.0]], dtype=torch.float64)  # less the centre (3, 4): a look of (0.6, 0.8)
    found = tower(image_BF, torch.tensor([0, 1]))
    # (0.6, 0.5) -> (1.1, 0.1); (2.0, -8.5 cut to 0) -> (2, 2)
    expected = torch.tensor([[1.1, 0.1], [2.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))


def test_a_user_is_the_direction_of_the_sum_and_a_score_the_cosine() -> None:
    item_ND = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    sum_BD = sum_items(item_ND, torch.tensor([0, 1, 2]), torch.tensor([2, 1]))
    assert sum_BD.tolist() == [[1.0, 1.0], pytest.approx([0.6, 0.8])]
    root = math.sqrt(0.5)
    assert score_items(sum_BD, item_ND).tolist() == [pytest.approx([root, root, 1.4 * root]), pytest.approx([0.6, 0.8, 1.0])]


def test_the_loss_is_minus_the_log_of_the_targets_share_among_the_candidates() -> None:
    score_BN = torch.tensor([[0.2, 0.4, 0.9], [0.1, 0.0, 0.3]], dtype=torch.float64)
    candidate_BN = torch.tensor([[True, True, False], [True, True, True]])
    found = compute_softmax_loss(score_BN, torch.tensor([0, 2]), candidate_BN=candidate_BN, temperature=0.2)
    share = [np.exp(1.0) / (np.exp(1.0) + np.exp(2.0)), np.exp(1.5) / (np.exp(0.5) + 1 + np.exp(1.5))]
    assert float(found) == pytest.approx(-np.log(share).mean(), abs=1e-12)


def test_of_a_target_alone_nothing_is_to_be_learned() -> None:
    mask = torch.tensor([[True, False]])
    assert float(compute_softmax_loss(torch.tensor([[0.5, 0.1]]), torch.tensor([0]), candidate_BN=mask, temperature=0.1)) == 0
