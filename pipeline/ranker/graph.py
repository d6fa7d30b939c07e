"""Item-item and user-item graphs of the ranker, and propagation over them (paper: Recommendation Reflection; MICRO, Zhang et al.).

The values are those of MICRO's dense recipe: cosine similarities, the k largest of each row kept (the item itself is always one of
them), symmetric normalisation by row sums. Departures:
1. Neighbours are found block by block without gradient, then only the N*k kept cosines are computed with gradient, in blocks whose
   gathered features are gathered again in the backward pass: the same values and gradients in O(N k) memory.
2. Rows of zeros and rows whose sum is not positive get zero weights (MICRO: NaN).
3. Neighbours are compared in float64, rounded to 2^-24 and ties go to the lower index, so that the choice depends neither on the
   block's shape nor on exact duplicates, and the scorer's substitution makes the same choice as the graph.
4. Only `sym` normalisation, MICRO's default; its `rw` and `none` are left out.
5. From `exact_items` items on, neighbours are the best of candidates that a FAISS index names (`approximate.py`), compared in the same way;
   an item for which it names too few is compared with all items.
6. Propagation has its own backward pass, a sum over the reversed edges, which are sorted, with their weights, once per graph instead of at
   every step.

Shapes: N items, U users, M = U + N nodes, B query rows, K neighbours, E edges, F features, D embedding width, P interactions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pipeline.ranker.approximate import search_candidates

BLOCK_ELEMENTS = 1 << 22  # similarities held at once, 32 MiB in float64
QUANTUM = 2.0**-24  # cosines closer than this are ties
NUM_SPARE = 8  # candidates beyond K that are looked at for ties


@dataclass(frozen=True)
class Edges:
    """Directed edges sorted by the node that receives, and the same edges sorted by the node that gives (for the backward pass)."""

    target_E: Tensor  # the receiving node, ascending
    source_E: Tensor  # the giving node
    offset_M: Tensor  # where each receiving node's edges begin
    reverse_target_E: Tensor  # the receiving nodes, by giving node
    reverse_offset_M: Tensor  # where each giving node's edges begin in that order


@dataclass(frozen=True)
class ItemGraph:
    """A directed k-nearest-neighbour graph: row i holds the neighbours of item i and their normalised weights."""

    index_NK: Tensor
    weight_NK: Tensor
    degree_N: Tensor  # row sums of the cosines, before normalisation
    edges: Edges
    reverse_weight_E: Tensor  # the weights by giving node, without gradient

    def detach(self) -> ItemGraph:
        """Return the same graph without gradient."""
        return replace(self, weight_NK=self.weight_NK.detach(), degree_N=self.degree_N.detach())


@dataclass(frozen=True)
class InteractionGraph:
    """The user-item graph with self loops, row-normalised; node u is user u, node U + i is item i."""

    edges: Edges
    weight_E: Tensor
    reverse_weight_E: Tensor  # the weights by giving node


def normalise_rows(feature_NF: Tensor) -> Tensor:
    """Scale every row to length 1; rows of zeros stay zeros."""
    return functional.normalize(feature_NF, dim=1, eps=1e-12)


def invert_root(degree: Tensor) -> Tensor:
    """Compute degree^-1/2, and 0 (with zero gradient) where the degree is not positive."""
    usable = degree > 1e-12
    return torch.where(usable, torch.where(usable, degree, 1.0).rsqrt(), 0.0)


def select_neighbours(unit_BF: Tensor, catalogue_NF: Tensor, own_B: Tensor, *, num_neighbors: int) -> Tensor:
    """Find the catalogue rows most similar to each unit row -> (B, K) indices; column 0 is `own_B`, always a neighbour of itself."""
    num_items = len(catalogue_NF)
    num_kept = min(num_neighbors, num_items)
    catalogue_FN = catalogue_NF.double().T
    index_BK = own_B.new_empty((len(unit_BF), num_kept))  # filled in place: small results kept between large blocks would fragment the heap
    for rows in split_rows(len(unit_BF), num_items):
        cosine_BN = unit_BF[rows].double() @ catalogue_FN
        cosine_BN.scatter_(1, own_B[rows, None], 2.0)  # above every cosine
        index_BK[rows] = choose_largest(cosine_BN, num_kept)
    return index_BK


def select_approximate_neighbours(unit_NF: Tensor, *, num_neighbors: int) -> Tensor:
    """Find the rows most similar to each unit row among the candidates of a FAISS index -> (N, K) indices as of `select_neighbours`."""
    num_items = len(unit_NF)
    candidate_NC = search_candidates(unit_NF, num_neighbors=num_neighbors, num_candidates=min(num_neighbors + NUM_SPARE, num_items))
    own_N = torch.arange(num_items, device=unit_NF.device)
    index_NK = own_N.new_empty((num_items, num_neighbors))
    open_N = torch.zeros(num_items, dtype=torch.bool, device=unit_NF.device)
    for rows in split_rows(num_items, candidate_NC.shape[1] * unit_NF.shape[1]):
        own_B1 = own_N[rows, None]
        others_BC = candidate_NC[rows]
        cosine_BC = torch.einsum("bf,bcf->bc", unit_NF[rows].double(), unit_NF[others_BC.clamp(min=0)].double())
        cosine_BC[(others_BC < 0) | (others_BC == own_B1)] = -2.0  # below every cosine
        index_BC = torch.cat([own_B1, others_BC], dim=1)
        value_BC = torch.cat([torch.full_like(cosine_BC[:, :1], 2.0), cosine_BC], dim=1)
        place_BK = build_keys(value_BC, index_BC, num_items).topk(num_neighbors, dim=1).indices
        index_NK[rows] = index_BC.gather(1, place_BK)
        open_N[rows] = value_BC.gather(1, place_BK[:, -1:]).squeeze(1) < -1.5
    if open_N.any():
        index_NK[open_N] = select_neighbours(unit_NF[open_N], unit_NF, own_N[open_N], num_neighbors=num_neighbors)
    return index_NK


def choose_largest(value_BN: Tensor, num_kept: int) -> Tensor:
    """Choose the largest values of each row -> (B, K) indices in falling order; values are rounded to QUANTUM, ties go to the lower index.

    Candidates come from a plain top-k. Where the last candidate ties with the K-th, ties may go on beyond them and the row is sorted whole.
    """
    num_items = value_BN.shape[1]
    near_BC, index_BC = value_BN.topk(min(num_kept + NUM_SPARE, num_items), dim=1)
    place_BK = build_keys(near_BC, index_BC, num_items).topk(num_kept, dim=1).indices
    chosen_BK = index_BC.gather(1, place_BK)
    level_B2 = (near_BC[:, [num_kept - 1, -1]] / QUANTUM).round_()
    open_B = level_B2[:, 0] == level_B2[:, 1]
    if near_BC.shape[1] < num_items and open_B.any():
        keys = build_keys(value_BN[open_B], torch.arange(num_items, device=value_BN.device), num_items)
        chosen_BK[open_B] = keys.topk(num_kept, dim=1).indices
    return chosen_BK


def build_keys(value_BN: Tensor, index_BN: Tensor, num_items: int) -> Tensor:
    """Build integers that sort by rounded value first and by falling index second."""
    return (value_BN / QUANTUM).round_().long().mul_(num_items).add_(num_items - 1 - index_BN)


def split_rows(num_rows: int, num_columns: int) -> list[slice]:
    """Cut `num_rows` into slices whose blocks of `num_columns` hold at most BLOCK_ELEMENTS numbers."""
    step = max(1, BLOCK_ELEMENTS // max(1, num_columns))
    return [slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def build_item_graph(feature_NF: Tensor, *, num_neighbors: int, exact_items: int | None = None) -> ItemGraph:
    """Build the graph of `feature_NF` (any scale); weights and degrees carry gradients to the features.

    From `exact_items` rows on (None: never) neighbours are approximate.
    """
    unit_NF = normalise_rows(feature_NF)
    with torch.no_grad():
        own_N = torch.arange(len(unit_NF), device=unit_NF.device)
        if exact_items is None or len(unit_NF) < exact_items:
            index_NK = select_neighbours(unit_NF, unit_NF, own_N, num_neighbors=num_neighbors)
        else:
            index_NK = select_approximate_neighbours(unit_NF, num_neighbors=min(num_neighbors, len(unit_NF)))
    blocks = [
        checkpoint(_compute_cosines, unit_NF, rows, index_NK, use_reentrant=False, preserve_rng_state=False)
        for rows in split_rows(len(unit_NF), index_NK.shape[1] * unit_NF.shape[1])
    ]
    cosine_NK = torch.cat(blocks)
    degree_N = cosine_NK.sum(dim=1)
    root_N = invert_root(degree_N)
    weight_NK = root_N[:, None] * cosine_NK * functional.embedding(index_NK, root_N[:, None]).squeeze(2)
    target_E = own_N.repeat_interleave(index_NK.shape[1])
    edges, reverse_E = build_edges(target_E, index_NK.flatten(), num_nodes=len(unit_NF))
    reverse_weight_E = weight_NK.detach().flatten()[reverse_E]
    return ItemGraph(index_NK=index_NK, weight_NK=weight_NK, degree_N=degree_N, edges=edges, reverse_weight_E=reverse_weight_E)


def _compute_cosines(unit_NF: Tensor, rows: slice, index_NK: Tensor) -> Tensor:
    return torch.einsum("nf,nkf->nk", unit_NF[rows], functional.embedding(index_NK[rows], unit_NF))


def build_edges(target_E: Tensor, source_E: Tensor, *, num_nodes: int) -> tuple[Edges, Tensor]:
    """Index edges from both ends; `target_E` ascends -> the edges, and their places (E,) by giving node.

    Nodes are numbers of 32 bits, half the memory and traffic, if there are few enough.
    """
    small = torch.int32 if max(len(target_E), num_nodes) < 2**31 else torch.int64
    count_M, reverse_count_M = (torch.bincount(node_E, minlength=num_nodes) for node_E in (target_E, source_E))
    reverse_E = torch.argsort(source_E, stable=True)
    edges = Edges(
        target_E=target_E.to(small),
        source_E=source_E.to(small),
        offset_M=(count_M.cumsum(0) - count_M).to(small),
        reverse_target_E=target_E[reverse_E].to(small),
        reverse_offset_M=(reverse_count_M.cumsum(0) - reverse_count_M).to(small),
    )
    return edges, reverse_E


def build_interaction_graph(pair_P2: Tensor, *, num_users: int, num_items: int) -> InteractionGraph:
    """Build D^-1 (A + I) of the bipartite graph from unique (user index, item index) pairs."""
    user_P, node_P = pair_P2[:, 0], pair_P2[:, 1] + num_users
    own_M = torch.arange(num_users + num_items, device=pair_P2.device)
    target_E, source_E = torch.cat([user_P, node_P, own_M]), torch.cat([node_P, user_P, own_M])
    order_E = torch.argsort(target_E * len(own_M) + source_E)
    edges, _ = build_edges(target_E[order_E], source_E[order_E], num_nodes=len(own_M))
    weight_M = torch.bincount(target_E).double().reciprocal()
    return InteractionGraph(edges=edges, weight_E=weight_M[edges.target_E], reverse_weight_E=weight_M[edges.reverse_target_E])


def propagate_items(graph: ItemGraph, value_ND: Tensor) -> Tensor:
    """Sum every item's neighbours by weight -> (N, D)."""
    return _Propagation.apply(graph.weight_NK.flatten().to(value_ND.dtype), value_ND, graph)


def propagate_interactions(graph: InteractionGraph, value_MD: Tensor) -> Tensor:
    """Average every node with its neighbours -> (M, D)."""
    return _Propagation.apply(graph.weight_E.to(value_MD.dtype), value_MD, graph)


class _Propagation(torch.autograd.Function):
    """Sum the giving nodes' values by weight at every receiving node."""

    @staticmethod
    def forward(ctx: Any, weight_E: Tensor, value_MD: Tensor, graph: ItemGraph | InteractionGraph) -> Tensor:
        ctx.save_for_backward(weight_E, value_MD if ctx.needs_input_grad[0] else None)  # only the weights' gradient needs the values
        ctx.graph = graph
        return functional.embedding_bag(graph.edges.source_E, value_MD, graph.edges.offset_M, per_sample_weights=weight_E, mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient_MD: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (weight_E, value_MD), edges = ctx.saved_tensors, ctx.graph.edges
        weight_gradient, value_gradient = None, None
        if ctx.needs_input_grad[0]:
            parts = [
                (gradient_MD[edges.target_E[rows]] * value_MD[edges.source_E[rows]]).sum(dim=1)
                for rows in split_rows(len(weight_E), value_MD.shape[1])
            ]
            weight_gradient = torch.cat(parts)
        if ctx.needs_input_grad[1]:
            value_gradient = functional.embedding_bag(
                edges.reverse_target_E,
                gradient_MD.contiguous(),
                edges.reverse_offset_M,
                per_sample_weights=ctx.graph.reverse_weight_E.to(gradient_MD.dtype),
                mode="sum",
            )
        return weight_gradient, value_gradient, None
