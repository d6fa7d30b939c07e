"""Rank references by the evaluation ranker, also with a drawn image in the place of the reference's own; its file.

A reference keeps its category, and only its image is replaced. A user is the sum of the whole history, the held-out item included. Arithmetic is
float64, so that a result does not depend on which rows share its batch.
Shapes: B cases, N items, F features, D embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.metrics.ranking import build_candidate_mask, compute_ranks
from pipeline.ranker_check.config import TowerConfig
from pipeline.ranker_check.material import Catalogue, CheckData
from pipeline.ranker_check.tower import ItemTower, score_items, sum_items

Ids = Sequence[str]
KIND = "two_tower"  # what the file says of itself
ROWS = 256  # cases at once


class CheckScorer:
    """A trained evaluation ranker."""

    def __init__(self, tower: ItemTower, catalogue: Catalogue, user_ids: Ids, pair_P2: Tensor) -> None:
        self.tower = tower.double().eval().requires_grad_(False)
        self.user_index = {user_id: index for index, user_id in enumerate(user_ids)}
        self.item_index = {item_id: index for index, item_id in enumerate(catalogue.item_ids)}
        self.category_N = catalogue.category_N
        self.item_ND = self.tower(catalogue.image_NF.double(), catalogue.category_N)
        pair_P2 = pair_P2[pair_P2[:, 0].argsort(stable=True)]
        self.user_UD = functional.normalize(sum_items(self.item_ND, pair_P2[:, 1], pair_P2[:, 0].bincount(minlength=len(user_ids))), dim=1)

    def rank_original(self, user_ids: Ids, reference_ids: Ids, *, exclude: Sequence[Ids]) -> Tensor:
        """Rank each reference with its own image -> (B,) int64, 1 = best; see `rank_substituted`."""
        item_B = self._find(self.item_index, reference_ids)
        return self._rank(self._find(self.user_index, user_ids), item_B, self.item_ND[item_B], exclude)

    def rank_substituted(self, user_ids: Ids, reference_ids: Ids, features_BF: Tensor, *, exclude: Sequence[Ids]) -> Tensor:
        """Rank each reference with its image vector replaced -> (B,) int64, 1 = best, ties count against it.

        Candidates are all items but the row's `exclude` (the user's history; unknown ids are ignored).
        """
        item_B = self._find(self.item_index, reference_ids)
        drawn_BD = self.tower(features_BF.to(self.item_ND), self.category_N[item_B])
        return self._rank(self._find(self.user_index, user_ids), item_B, drawn_BD, exclude)

    def _rank(self, user_B: Tensor, item_B: Tensor, target_BD: Tensor, exclude: Sequence[Ids]) -> Tensor:
        ranks = []
        for rows in self._cut(len(user_B)):
            user_BD = self.user_UD[user_B[rows]]
            excluded = [[self.item_index[one] for one in ids if one in self.item_index] for ids in exclude[rows]]
            mask_BN = build_candidate_mask(len(self.item_ND), item_B[rows], excluded=excluded)
            own_B = torch.einsum("bd,bd->b", user_BD, target_BD[rows])
            ranks.append(compute_ranks(score_items(user_BD, self.item_ND), item_B[rows], candidate_BN=mask_BN, target_score_B=own_B).cpu())
        return torch.cat(ranks) if ranks else torch.empty(0, dtype=torch.int64)

    def _cut(self, count: int) -> Iterator[slice]:
        return (slice(start, start + ROWS) for start in range(0, count, ROWS))

    def _find(self, index: dict[str, int], ids: Ids) -> Tensor:
        unknown = next((one for one in ids if one not in index), None)
        if unknown is not None:
            raise ValueError(f"the evaluation ranker does not know {unknown!r}; it was trained on {len(index)} others.")
        return torch.tensor([index[one] for one in ids], dtype=torch.int64, device=self.item_ND.device)


def save_check(path: Path, tower: ItemTower, data: CheckData, *, config: TowerConfig) -> None:
    """Write a trained evaluation ranker as one safetensors file: weights, image vectors, categories, histories, ids and sizes."""
    catalogue = data.catalogue
    tensors = {f"weights.{name}": tensor for name, tensor in tower.state_dict().items()}
    tensors |= {"images": catalogue.image_NF, "categories": catalogue.category_N, "pairs": torch.cat([data.train_P2, data.held_out_P2])}
    sizes = {field.name: getattr(config, field.name) for field in dataclasses.fields(TowerConfig)}
    write_tensors(path, tensors, {"kind": KIND, "config": sizes, "user_ids": list(data.user_ids), "item_ids": list(catalogue.item_ids)})


def load_check(path: Path, *, device: torch.device | str = "cpu") -> CheckScorer:
    """Read a trained evaluation ranker; ValueError if the file is another ranker."""
    tensors, facts = read_tensors(path)
    if facts.get("kind") != KIND:
        raise ValueError(f"{path} is not the evaluation ranker that the stage ranker_check writes.")
    weights = {name.removeprefix("weights."): tensor for name, tensor in tensors.items() if name.startswith("weights.")}
    num_categories, num_features = len(weights["category.weight"]), len(weights["centre_F"])
    tower = ItemTower(num_features=num_features, num_categories=num_categories, config=TowerConfig(**facts["config"]))
    tower.load_state_dict(weights)
    catalogue = Catalogue(tuple(facts["item_ids"]), tensors["images"].to(device), tensors["categories"].to(device))
    return CheckScorer(tower.to(device), catalogue, facts["user_ids"], tensors["pairs"].to(device))
