"""MICRO, the multi-modal ranking model: item graphs from image and text, fused by attention, on top of LightGCN (paper: eq. 10).

After Zhang et al., "Latent Structure Mining with Contrastive Modality Fusion" (TKDE). Features only decide which items are
neighbours and how strongly; what is propagated are item embeddings. Departures:
1. Only the LightGCN variant; the matrix factorisation and NGCF variants are left out.
2. `train_features=False` keeps the feature tables fixed and trains their projections alone (MICRO trains the tables, which is
   the default). A substituted image is then seen by the learned graph exactly as it is.
3. `image_text_weight`: the image graph joins an item to those that look alike AND are about alike things: its feature is the image
   vector beside the text vector times this weight (0: the image alone, as printed). MICRO's two graphs are separate, so that what
   an item gains from its style does not depend on what it shows, and the ranker cannot learn that a user likes animals in one
   style and food in another. The text half is the item's own and stays when its image is substituted.

Shapes: U users, N items, F features, D embedding width, P interactions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.allocator import return_freed_memory
from pipeline.ranker.config import MicroConfig
from pipeline.ranker.graph import (
    InteractionGraph,
    ItemGraph,
    build_interaction_graph,
    build_item_graph,
    normalise_rows,
    propagate_interactions,
    propagate_items,
)

MODALITIES = ("image", "text")
ItemGraphs = dict[str, ItemGraph]  # by modality


def join_text(image_BF: Tensor, text_BT: Tensor, *, weight: float) -> Tensor:
    """Put the unit text vectors, times `weight`, beside the unit image vectors -> (B, F + T) of length 1; (B, F) if it is 0."""
    return normalise_rows(torch.cat([image_BF, weight * text_BT], dim=1)) if weight else image_BF


@dataclass(frozen=True)
class Representations:
    """What one forward pass yields; a score is the dot product of a row of `user_UD` and a row of `item_ND`."""

    user_UD: Tensor
    item_ND: Tensor
    collaborative_ND: Tensor  # the item part of the user-item graph alone
    views_ND: dict[str, Tensor]  # by modality
    fused_ND: Tensor


class Micro(nn.Module):
    """MICRO on fixed graphs; `features` holds (N, F) `image` and `text`, `pair_P2` the unique training pairs (user, item).

    Graphs are plain attributes and not in the state dict: they follow from features and weights. After loading weights, learned
    graphs are built again with `build_learned_graphs`. Without a `generator`, weights are meant to be loaded.
    """

    def __init__(
        self,
        features: dict[str, Tensor],
        pair_P2: Tensor,
        *,
        num_users: int,
        config: MicroConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        num_items, width = len(features["image"]), config.embedding_dim
        if num_items >= config.exact_items:
            return_freed_memory()
        self.config = config
        self.num_users = num_users
        self.pair_P2 = pair_P2
        self.user_embedding = nn.Embedding(num_users, width)
        self.item_id_embedding = nn.Embedding(num_items, width)
        for name in MODALITIES:
            table = nn.Embedding.from_pretrained(features[name].clone(), freeze=not config.train_features)
            self.add_module(f"{name}_embedding", table)
            self.add_module(f"{name}_trs", nn.Linear(features[name].shape[1], width))
        self.query = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        self._initialise(generator or torch.Generator().manual_seed(0))
        self.to(features["image"])  # device and dtype
        self.original: ItemGraphs = {name: self._build_item_graph(features[name]) for name in MODALITIES}
        self.interactions: InteractionGraph = build_interaction_graph(pair_P2, num_users=num_users, num_items=num_items)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        """Draw all weights from `generator`: Xavier for embeddings, torch's defaults for linear layers."""
        for table in (self.user_embedding, self.item_id_embedding):
            nn.init.xavier_uniform_(table.weight, generator=generator)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                bound = 1.0 / math.sqrt(layer.in_features)
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)

    def build_learned_graphs(self) -> ItemGraphs:
        """Build the graphs of the projected feature tables, with gradient."""
        graphs = {}
        for name in MODALITIES:
            projected_ND = self.get_submodule(f"{name}_trs")(self.get_submodule(f"{name}_embedding").weight)
            graphs[name] = self._build_item_graph(projected_ND)
        return graphs

    def _build_item_graph(self, feature_NF: Tensor) -> ItemGraph:
        return build_item_graph(feature_NF, num_neighbors=self.config.num_neighbors, exact_items=self.config.exact_items)

    def propagate_view(self, name: str, learned: ItemGraphs) -> list[Tensor]:
        """Propagate item embeddings over the mixed graph of one modality -> the (N, D) input of every layer and the last output."""
        share = self.config.original_weight
        layers = [self.item_id_embedding.weight]
        for _ in range(self.config.item_layers):
            original_ND = propagate_items(self.original[name], layers[-1])
            layers.append(share * original_ND + (1.0 - share) * propagate_items(learned[name], layers[-1]))
        return layers

    def fuse_views(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        """Average the two views by the attention of the shared query net -> (B, D)."""
        weight_B2 = torch.cat([self.query(image_BD), self.query(text_BD)], dim=1).softmax(dim=1)
        return weight_B2[:, :1] * image_BD + weight_B2[:, 1:] * text_BD

    def forward(self, learned: ItemGraphs) -> Representations:
        """Compute all vectors with the given learned graphs."""
        views_ND = {name: self.propagate_view(name, learned)[-1] for name in MODALITIES}
        fused_ND = self.fuse_views(views_ND["image"], views_ND["text"])
        layer_MD = torch.cat([self.user_embedding.weight, self.item_id_embedding.weight])
        sum_MD = layer_MD
        for _ in range(self.config.user_layers):
            layer_MD = propagate_interactions(self.interactions, layer_MD)
            sum_MD = sum_MD + layer_MD
        mean_MD = sum_MD / (self.config.user_layers + 1)
        user_UD, collaborative_ND = mean_MD.split([self.num_users, len(mean_MD) - self.num_users])
        item_ND = collaborative_ND + normalise_rows(fused_ND)
        return Representations(user_UD, item_ND, collaborative_ND, views_ND, fused_ND)
