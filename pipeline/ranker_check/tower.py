"""The two towers: an item is a small network's vector of its image and category, a user the sum of what they have looked at.

After the two-tower retrieval models of Covington et al. 2016 and Yi et al. 2019 (softmax over the catalogue, cosine over a temperature). The item
tower is not linear, for a user may like one look on animals and another on food: VBPR's bilinear score cannot say so. Nothing belongs to
a single item or user, so an item that nobody has seen, and a drawn image, are scored like any other.

Shapes: B rows, N items, P pairs, F features, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.ranker_check.config import TowerConfig

CATEGORY_SCALE = 0.02  # standard deviation of a new category's vector: about that of an image's part


class ItemTower(nn.Module):
    """Maps an image vector and a category to a unit vector; without a `generator` the weights are meant to be loaded."""

    def __init__(self, *, num_features: int, num_categories: int, config: TowerConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.image = nn.Linear(num_features, config.hidden_dim)
        self.category = nn.Embedding(num_categories, config.hidden_dim)
        self.out = nn.Linear(config.hidden_dim, config.embedding_dim)
        self.register_buffer("centre_F", torch.zeros(num_features))
        if generator is not None:
            self._initialise(generator)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for layer in (self.image, self.out):
            bound = layer.in_features**-0.5  # torch's own
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        self.category.weight.normal_(0, CATEGORY_SCALE, generator=generator)

    def forward(self, image_BF: Tensor, category_B: Tensor) -> Tensor:
        """Compute the rows' vectors -> (B, D) of length 1; what all images share is taken off first."""
        look_BF = functional.normalize(image_BF - self.centre_F, dim=1)
        hidden = functional.relu(self.image(look_BF) + self.category(category_B))
        return functional.normalize(self.out(hidden), dim=1)


def sum_items(item_ND: Tensor, item_P: Tensor, count_B: Tensor) -> Tensor:
    """Sum the vectors of each row's items, which stand behind each other in `item_P` -> (B, D)."""
    return functional.embedding_bag(item_P, item_ND, count_B.cumsum(0) - count_B, mode="sum")


def score_items(sum_BD: Tensor, item_ND: Tensor) -> Tensor:
    """Score every item for the user of each row: the cosine with the sum of their items -> (B, N)."""
    return functional.normalize(sum_BD, dim=1) @ item_ND.T


def compute_softmax_loss(score_BN: Tensor, target_B: Tensor, *, candidate_BN: Tensor, temperature: float) -> Tensor:
    """Compute minus the mean log-probability of each row's target among its candidates, itself one of them -> ()."""
    logit_BN = (score_BN / temperature).masked_fill(~candidate_BN, -torch.inf)
    return functional.cross_entropy(logit_BN, target_B)
