"""Score and rank items for users, also with one item's image replaced by another (paper: eq. 10, and the ranks of eq. 16).

"Substituting visual features into the sequence" is read as: the reference keeps its id embedding, its text and its place in the
user-item graph, and only its image vector is replaced (in a graph of image and text, the image half). Substitution is local
(inductive): the replaced row of the two image graphs is computed anew, every other row and row sum stays. That is exact for the
original image, needs one matrix product for many images, and lets two users put different images in the place of the same item;
`replace_images` is the exact rule, a rebuild of the graphs. In a catalogue so large that the graphs' neighbours are approximate, a substituted
image is still compared with every item.

Departures from MICRO: its trained feature table moves away from the raw features; that shift belongs to the item and is added to a
substituted image before the learned projection, so that the original image gives the original score. All arithmetic is float64, so
that a result does not depend on which other rows share its batch.

Shapes: B images or cases, U users, N items, F features, K neighbours, D embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.metrics.ranking import build_candidate_mask, compute_ranks
from pipeline.randomness import make_generator
from pipeline.ranker.config import MicroConfig
from pipeline.ranker.graph import invert_root, normalise_rows, select_neighbours, split_rows
from pipeline.ranker.micro import MODALITIES, Micro, join_text

Ids = Sequence[str]


@dataclasses.dataclass(frozen=True)
class ImageGraph:
    """One image graph as substitution needs it: unit features, row sums, and the graph's share of the mix."""

    unit_NF: Tensor
    degree_N: Tensor
    share: float


class RankerScorer:
    """A trained ranker with its graphs rebuilt; `image_feature` names the embedding column that substituted images must come from."""

    def __init__(self, model: Micro, features: dict[str, Tensor], *, user_ids: Ids, item_ids: Ids, image_feature: str) -> None:
        assert model.user_embedding.weight.dtype == torch.float64
        self.model, self.features = model, features
        self.user_ids, self.item_ids, self.image_feature = tuple(user_ids), tuple(item_ids), image_feature
        self.user_index = {user_id: index for index, user_id in enumerate(user_ids)}
        self.item_index = {item_id: index for index, item_id in enumerate(item_ids)}
        share = model.config.original_weight
        with torch.no_grad():
            learned = model.build_learned_graphs()
            self.state = model(learned)
            self._layers_ND = model.propagate_view("image", learned)
            projected_ND = model.image_trs(model.image_embedding.weight)
        self._graphs = (
            ImageGraph(normalise_rows(self.features["image"]), model.original["image"].degree_N, share),
            ImageGraph(normalise_rows(projected_ND), learned["image"].degree_N, 1.0 - share),
        )

    @torch.no_grad()
    def score_all(self, user_ids: Ids) -> Tensor:
        """Score the whole catalogue for each user -> (B, N), columns as in `item_ids`."""
        return self._score_users(self._find_users(user_ids)).float().cpu()

    @torch.no_grad()
    def score_original(self, user_ids: Ids, item_ids: Ids) -> Tensor:
        """Score each item with its own image for the user of the same row -> (B,)."""
        user_B, item_B = self._find_users(user_ids), self._find_items(item_ids)
        return (self.state.user_UD[user_B] * self.state.item_ND[item_B]).sum(dim=1).float().cpu()

    @torch.no_grad()
    def score_substituted(self, user_ids: Ids, item_ids: Ids, features_BF: Tensor | np.ndarray) -> Tensor:
        """Score each item with its image vector replaced for the user of the same row -> (B,)."""
        return self._score_substituted(self._find_users(user_ids), self._find_items(item_ids), features_BF).float().cpu()

    @torch.no_grad()
    def rank_original(self, user_ids: Ids, reference_ids: Ids, *, exclude: Sequence[Ids], negatives: Sequence[Ids] | None = None) -> Tensor:
        """Rank each reference with its own image -> (B,) int64, 1 = best; see `rank_substituted`."""
        return self._rank(self._find_users(user_ids), self._find_items(reference_ids), None, exclude, negatives)

    @torch.no_grad()
    def rank_substituted(
        self,
        user_ids: Ids,
        reference_ids: Ids,
        features_BF: Tensor | np.ndarray,
        *,
        exclude: Sequence[Ids],
        negatives: Sequence[Ids] | None = None,
    ) -> Tensor:
        """Rank each reference with its image vector replaced -> (B,) int64, 1 = best, ties count against it.

        Candidates are all items but the row's `exclude` (the user's history; unknown ids are ignored), or only its `negatives`.
        """
        user_B, item_B = self._find_users(user_ids), self._find_items(reference_ids)
        score_B = self._score_substituted(user_B, item_B, features_BF)
        return self._rank(user_B, item_B, score_B, exclude, negatives)

    @torch.no_grad()
    def user_mean_std(self, user_ids: Ids) -> tuple[Tensor, Tensor]:
        """Return the mean and the deviation of each user's scores over the catalogue -> two (B,), for z-scores."""
        user_B = self._find_users(user_ids)
        parts = [self._score_users(user_B[rows]) for rows in split_rows(len(user_B), len(self.item_ids))]
        moments = [torch.stack([part.mean(dim=1), part.std(dim=1, correction=0)]) for part in parts]
        mean_B, std_B = torch.cat([user_B.new_empty((2, 0)).double(), *moments], dim=1).float().cpu()
        return mean_B, std_B

    def draw_negatives(self, keys: Ids, reference_ids: Ids, *, exclude: Sequence[Ids], count: int, seed: int) -> list[list[str]]:
        """Draw `count` candidates per row, from a generator of (seed, key) alone: every method meets the same negatives."""
        drawn = []
        for key, reference_id, excluded in zip(keys, reference_ids, exclude, strict=True):
            mask_1N = build_candidate_mask(len(self.item_ids), self._find_items([reference_id]).cpu(), excluded=[self._list_known(excluded)])
            candidates = torch.nonzero(mask_1N[0]).squeeze(1)
            candidates = candidates[candidates != self.item_index[reference_id]]
            order = torch.randperm(len(candidates), generator=make_generator(seed, "negatives", key))[:count]
            drawn.append([self.item_ids[index] for index in candidates[order].tolist()])
        return drawn

    @torch.no_grad()
    def replace_images(self, item_ids: Ids, features_BF: Tensor | np.ndarray) -> RankerScorer:
        """Return a scorer whose items have these image vectors and whose graphs are rebuilt (the exact rule, no retraining)."""
        index_B = self._find_items(item_ids)
        feature_BF = self._read_features(features_BF, index_B)
        features = {name: feature.clone() for name, feature in self.features.items()}
        features["image"][index_B] = feature_BF
        weights = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        weights["image_embedding.weight"][index_B] += feature_BF - self.features["image"][index_B]
        ids: dict[str, Any] = {"user_ids": self.user_ids, "item_ids": self.item_ids, "image_feature": self.image_feature}
        return build_scorer(weights, features, self.model.pair_P2, config=self.model.config, **ids)

    def substitute(self, item_B: Tensor, feature_BF: Tensor) -> Tensor:
        """Compute the final vector of each item with its image vector replaced, by the local rule -> (B, D)."""
        shift_BF = self.model.image_embedding.weight[item_B] - self.features["image"][item_B]
        units = (normalise_rows(feature_BF), normalise_rows(self.model.image_trs(feature_BF + shift_BF)))
        rows = [self._build_row(graph, unit_BF, item_B) for graph, unit_BF in zip(self._graphs, units, strict=True)]
        own_BD = self._layers_ND[0][item_B]
        for layer_ND in self._layers_ND[:-1]:
            own_BD = torch.stack([row.apply(layer_ND, own_BD) for row in rows]).sum(dim=0)
        fused_BD = self.model.fuse_views(own_BD, self.state.views_ND["text"][item_B])
        return self.state.collaborative_ND[item_B] + normalise_rows(fused_BD)

    def _build_row(self, graph: ImageGraph, unit_BF: Tensor, item_B: Tensor) -> _GraphRow:
        index_BK = select_neighbours(unit_BF, graph.unit_NF, item_B, num_neighbors=self.model.config.num_neighbors)
        cosine_BK = torch.einsum("bf,bkf->bk", unit_BF, graph.unit_NF[index_BK])
        cosine_BK[:, 0] = unit_BF.square().sum(dim=1)  # column 0 is the item itself, with its new image
        degree_BK = graph.degree_N[index_BK]
        degree_BK[:, 0] = cosine_BK.sum(dim=1)
        return _GraphRow(index_BK, invert_root(degree_BK[:, :1]) * cosine_BK * invert_root(degree_BK), graph.share)

    def _score_substituted(self, user_B: Tensor, item_B: Tensor, features_BF: Tensor | np.ndarray) -> Tensor:
        if not len(user_B) == len(item_B) == len(features_BF):
            raise ValueError(f"there are {len(user_B)} users, {len(item_B)} items and {len(features_BF)} images, but one of each per row is needed.")
        feature_BF = self._read_features(features_BF, item_B)
        width = max(len(self.item_ids), self.model.config.num_neighbors * feature_BF.shape[1])
        parts = [
            (self.state.user_UD[user_B[rows]] * self.substitute(item_B[rows], feature_BF[rows])).sum(dim=1) for rows in split_rows(len(item_B), width)
        ]
        return torch.cat(parts) if parts else feature_BF.new_empty(0)

    def _rank(self, user_B: Tensor, item_B: Tensor, score_B: Tensor | None, exclude: Sequence[Ids], negatives: Sequence[Ids] | None) -> Tensor:
        if len(exclude) != len(user_B):
            raise ValueError(f"there are {len(user_B)} rows, but {len(exclude)} lists of excluded items.")
        excluded = [self._list_known(ids) for ids in exclude]
        allowed = None if negatives is None else [self._list_known(ids) for ids in negatives]
        parts = []
        for rows in split_rows(len(user_B), len(self.item_ids)):
            mask_BN = build_candidate_mask(
                len(self.item_ids), item_B[rows], excluded=excluded[rows], allowed=None if allowed is None else allowed[rows]
            )
            own_B = None if score_B is None else score_B[rows]
            parts.append(compute_ranks(self._score_users(user_B[rows]), item_B[rows], candidate_BN=mask_BN, target_score_B=own_B))
        return torch.cat(parts).cpu() if parts else torch.empty(0, dtype=torch.int64)

    def _score_users(self, user_B: Tensor) -> Tensor:
        return self.state.user_UD[user_B] @ self.state.item_ND.T

    def _read_features(self, features_BF: Tensor | np.ndarray, item_B: Tensor) -> Tensor:
        """Check image vectors and make the image graph's features of them: each item keeps its own text half, if there is one."""
        weight, text_NT = self.model.config.image_text_weight, self.features["text"]
        width = self.features["image"].shape[1] - (text_NT.shape[1] if weight else 0)
        feature_BF = torch.as_tensor(np.asarray(features_BF.detach().cpu() if isinstance(features_BF, Tensor) else features_BF))
        if feature_BF.ndim != 2 or feature_BF.shape[1] != width:
            raise ValueError(f"image features have shape {tuple(feature_BF.shape)}, but (B, {width}) of `{self.image_feature}` is needed.")
        if not torch.isfinite(feature_BF).all():
            raise ValueError("an image feature holds a value that is not finite.")
        return join_text(normalise_rows(feature_BF.to(text_NT)), text_NT[item_B], weight=weight)

    def _find_users(self, user_ids: Ids) -> Tensor:
        return self._find(self.user_index, user_ids, "user")

    def _find_items(self, item_ids: Ids) -> Tensor:
        return self._find(self.item_index, item_ids, "item")

    def _find(self, index: dict[str, int], ids: Ids, noun: str) -> Tensor:
        unknown = next((one for one in ids if one not in index), None)
        if unknown is not None:
            raise ValueError(f"the ranker knows no {noun} {unknown!r}; it was trained on {len(index)} {noun}s.")
        return torch.tensor([index[one] for one in ids], dtype=torch.int64, device=self.state.user_UD.device)

    def _list_known(self, item_ids: Ids) -> list[int]:
        return [self.item_index[one] for one in item_ids if one in self.item_index]


@dataclasses.dataclass(frozen=True)
class _GraphRow:
    """The replaced row of one image graph: neighbours (column 0 = the item itself), weights, and the graph's share."""

    index_BK: Tensor
    weight_BK: Tensor
    share: float

    def apply(self, layer_ND: Tensor, own_BD: Tensor) -> Tensor:
        """Sum the neighbours by weight, with `own_BD` for the item itself -> (B, D)."""
        neighbour_BKD = layer_ND[self.index_BK]
        neighbour_BKD[:, 0] = own_BD
        return torch.einsum("bk,bkd->bd", self.weight_BK, neighbour_BKD) * self.share


def save_ranker(path: Path, model: Micro, features: dict[str, Tensor], *, user_ids: Ids, item_ids: Ids, image_feature: str) -> None:
    """Write a trained ranker as one safetensors file: weights, raw features, training pairs, ids and settings, but no graphs."""
    tensors = {f"weights.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"features.{name}": feature for name, feature in features.items()}
    tensors["train_pairs"] = model.pair_P2
    config = {field.name: getattr(model.config, field.name) for field in dataclasses.fields(MicroConfig)}
    if len(item_ids) < config["exact_items"]:
        del config["exact_items"]  # where it decides nothing the file does not depend on it
    facts = {"config": config, "image_feature": image_feature, "user_ids": list(user_ids), "item_ids": list(item_ids)}
    write_tensors(path, tensors, facts)


def load_ranker(path: Path, *, device: torch.device | str = "cpu") -> RankerScorer:
    """Read a trained ranker and rebuild its graphs."""
    tensors, facts = read_tensors(path)
    weights = {name.removeprefix("weights."): tensor for name, tensor in tensors.items() if name.startswith("weights.")}
    try:
        ids: dict[str, Any] = {name: facts[name] for name in ("user_ids", "item_ids", "image_feature")}
        features = {name: tensors[f"features.{name}"].to(device) for name in MODALITIES}
        return build_scorer(
            weights,
            features,
            tensors["train_pairs"].to(device),
            config=MicroConfig(**{"exact_items": len(ids["item_ids"]) + 1, **facts["config"]}),
            **ids,
        )
    except KeyError as error:
        raise ValueError(f"{path} is not a ranker: {error} is missing.") from error


def build_scorer(
    weights: dict[str, Tensor],
    features: dict[str, Tensor],
    pair_P2: Tensor,
    *,
    config: MicroConfig,
    user_ids: Ids,
    item_ids: Ids,
    image_feature: str,
) -> RankerScorer:
    """Build a scorer in float64 from a model's weights; the graphs are built here."""
    features = {name: feature.double() for name, feature in features.items()}
    model = Micro(features, pair_P2, num_users=len(user_ids), config=config)
    model.load_state_dict(weights)
    model.eval().requires_grad_(False)
    return RankerScorer(model, features, user_ids=user_ids, item_ids=item_ids, image_feature=image_feature)
