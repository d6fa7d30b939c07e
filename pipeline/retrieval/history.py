"""The history items that matter for a reference, their weights, and P^ret (eq. 3-5).

Departures: (1) s' of eq. 5 is the min-max scaled similarity by default: the softmax of raw cosines, or of cosines over their
sum, is almost uniform, against the paper's purpose; both remain as options, and so does a temperature. (2) An item that occurs
twice in a history counts once, at its latest place. (3) With k = 0 nothing is retrieved, and P^ret is undefined, not zero.
(4) `center: true` subtracts the catalogue's mean vector before the cosine: text encoders give all texts a large common part that hides
what they differ in (Mu & Viswanath 2018). (5) `exp-ret` and `random` are the paper's Fig. 2 controls: ranks k+1 to 2k, and k items drawn per case.

Shapes: N history items (oldest first), K retrieved ones, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts import get_matrix
from pipeline.randomness import make_generator
from pipeline.retrieval.config import Normalisation, RetrievalConfig, Strategy
from pipeline.retrieval.index import search_top_k

NOISE = 1e-5  # length of a centred vector below which it is the last bits of a float32: where all texts are equal, nothing is alike


def compute_weights(similarity_K: Tensor, *, normalisation: Normalisation = "minmax", temperature: float = 1.0) -> Tensor:
    """Compute the weights of eq. 5, softmax(s' / temperature): (K,), positive, sum 1; equal similarities weigh the same."""
    if normalisation == "minmax":
        spread = similarity_K.max() - similarity_K.min()
        scaled_K = (similarity_K - similarity_K.min()) / spread if spread > 0 else torch.zeros_like(similarity_K)
    elif normalisation == "sum":
        total = similarity_K.sum()  # of cosines that may be negative: a sum <= 0 would turn the order around
        scaled_K = similarity_K / total if total > 0 else torch.zeros_like(similarity_K)
    elif normalisation == "raw":
        scaled_K = similarity_K
    else:
        raise ValueError(f"normalisation is {normalisation!r}, but it must be one of: minmax, raw, sum.")
    return torch.softmax(scaled_K / temperature, dim=0)


def compute_retrieval_preference(weight_K: Tensor, visual_KD: Tensor) -> Tensor:
    """Compute P^ret of eq. 5, the weighted sum of visual features: (K,) and (K, D) to (D,)."""
    if len(weight_K) != len(visual_KD) or not len(weight_K):
        raise ValueError(f"P^ret needs as many weights as features and at least one, but there are {len(weight_K)} and {len(visual_KD)}.")
    return weight_K.to(visual_KD) @ visual_KD


def center_rows(vector_ND: np.ndarray) -> np.ndarray:
    """Subtract the mean vector; a row that is left with rounding alone becomes zero."""
    centered_ND = vector_ND - vector_ND.mean(axis=0, dtype=np.float64)
    centered_ND[np.linalg.norm(centered_ND, axis=1) < NOISE] = 0.0
    return centered_ND


def compute_entropy(weight_K: Tensor) -> float:
    """Compute the weights' entropy in nats: 0 if one item has all, log K if all weigh the same."""
    return float(torch.special.entr(weight_K.double()).sum())


def choose_items(
    reference_D: np.ndarray, history_ND: np.ndarray, *, k: int, strategy: Strategy, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose up to k history rows; return their indices and cosines to the reference, most similar first."""
    depth = {"ret": k, "exp-ret": 2 * k, "random": len(history_ND)}[strategy]
    index_N, similarity_N = search_top_k(reference_D, history_ND, depth)
    if strategy == "exp-ret":
        return index_N[k:], similarity_N[k:]
    if strategy == "random":
        rank_K = np.sort(torch.randperm(len(index_N), generator=generator)[:k].numpy())
        return index_N[rank_K], similarity_N[rank_K]
    return index_N, similarity_N


def retrieve_histories(cases: pa.Table, embeddings: pa.Table, config: RetrievalConfig, *, seed: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Retrieve for every case: rows of the retrieved table, and the reason for each case that has none."""
    semantic_ND = get_matrix(embeddings, "semantic")
    if config.center:
        semantic_ND = center_rows(semantic_ND)
    place_of = {item_id: i for i, item_id in enumerate(embeddings["item_id"].to_pylist())}
    rows: list[dict[str, Any]] = []
    rejected: dict[str, str] = {}
    for case in cases.select(["case_id", "history", "reference_id"]).to_pylist():
        case_id, reference_id = case["case_id"], case["reference_id"]
        item_ids = [item_id for item_id in list_unique(case["history"]) if item_id in place_of]
        if reference_id not in place_of:
            rejected[case_id] = f"The reference item {reference_id} has no embedding."
            continue
        if not item_ids:
            rejected[case_id] = f"None of the {len(case['history'])} history items has an embedding."
            continue
        places = [place_of[item_id] for item_id in item_ids]
        generator = make_generator(seed, "retrieval", case_id)
        chosen = choose_items(semantic_ND[place_of[reference_id]], semantic_ND[places], k=config.k, strategy=config.strategy, generator=generator)
        if config.k and not len(chosen[0]):
            rejected[case_id] = f"Only {len(item_ids)} history items have embeddings, so none ranks beyond k = {config.k}."
            continue
        rows += build_case_rows(case_id, item_ids, *chosen, config)
    return rows, rejected


def build_case_rows(
    case_id: str, item_ids: Sequence[str], index_K: np.ndarray, similarity_K: np.ndarray, config: RetrievalConfig
) -> list[dict[str, Any]]:
    """Build the retrieved rows of one case: rank 0 is the most similar of the chosen items."""
    if not len(index_K):
        return []
    weight_K = compute_weights(torch.from_numpy(similarity_K), normalisation=config.normalisation, temperature=config.temperature)
    chosen = zip(index_K, similarity_K, weight_K.tolist(), strict=True)
    return [
        {"case_id": case_id, "rank": rank, "item_id": item_ids[index], "similarity": float(similarity), "weight": weight}
        for rank, (index, similarity, weight) in enumerate(chosen)
    ]


def list_unique(history: Sequence[str]) -> list[str]:
    """Return the history without repetitions, each item at its latest place."""
    return list(dict.fromkeys(reversed(history)))[::-1]


def build_retrieval_preferences(
    retrieved: pa.Table, embeddings: pa.Table, case_ids: Sequence[str], *, feature: str = "visual"
) -> tuple[Tensor, Tensor]:
    """Build P^ret of each case from its retrieved rows: (B, D), and (B,) whether it has one; without rows it is undefined (zeros here)."""
    feature_ND = torch.from_numpy(np.array(get_matrix(embeddings, feature), dtype=np.float32))
    place_of = {item_id: i for i, item_id in enumerate(embeddings["item_id"].to_pylist())}
    chosen: dict[str, tuple[list[float], list[int]]] = {case_id: ([], []) for case_id in case_ids}
    for case_id, item_id, weight in zip(*(retrieved[name].to_pylist() for name in ("case_id", "item_id", "weight")), strict=True):
        if case_id in chosen:
            weights, places = chosen[case_id]
            weights.append(weight)
            places.append(place_of[item_id])
    preference_BD = torch.zeros(len(case_ids), feature_ND.shape[1])
    for row, case_id in enumerate(case_ids):
        weights, places = chosen[case_id]
        if weights:
            preference_BD[row] = compute_retrieval_preference(torch.tensor(weights), feature_ND[places])
    return preference_BD, torch.tensor([bool(chosen[case_id][0]) for case_id in case_ids], dtype=torch.bool)
