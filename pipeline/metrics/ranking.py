"""Ranks among candidates and what is computed from them: Recall@K, NDCG@K, ΔR (paper: eq. 16, Table 4).

Choices and departures:
1. Ties count against the ranked item, so that a constant scorer gets the worst ranks instead of the best.
2. NDCG's ideal has min(number of positives, K) ones. MICRO's own evaluation builds the ideal from the positives that were
   retrieved, which gives 1.0 to a list that holds one of three positives at the top; `ideal="retrieved"` reproduces it.
3. ΔR is returned per user and not multiplied by 100.

Shapes: B users or cases, N items, P positives per user.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.metrics.protocol import Ideal


def build_candidate_mask(
    num_items: int, target_B: Tensor, *, excluded: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]] | None = None
) -> Tensor:
    """Decide every row's candidates -> (B, N) bool: all items (or those `allowed`) but the excluded; the target always is one.

    The only place where candidates are decided: for validation, for the original and for substituted images, by either ranker.
    """
    mask_BN = torch.full((len(target_B), num_items), allowed is None, device=target_B.device)
    for rows, value in ((allowed, True), (excluded, False)):
        if rows is not None:
            count_B = torch.tensor([len(row) for row in rows], dtype=torch.int64, device=target_B.device)
            row_E = torch.repeat_interleave(torch.arange(len(rows), device=target_B.device), count_B)
            column_E = torch.tensor([index for row in rows for index in row], dtype=torch.int64, device=target_B.device)
            mask_BN[row_E, column_E] = value
    return mask_BN.scatter_(1, target_B[:, None], True)


def compute_ranks(score_BN: Tensor, target_B: Tensor, *, candidate_BN: Tensor, target_score_B: Tensor | None = None) -> Tensor:
    """Rank each target (1 = best) among its row's candidates -> (B,) int64; its own column is ignored, ties count against it.

    `target_score_B` stands in for the target's score of the catalogue, e.g. that of a substituted image.
    """
    if candidate_BN.shape != score_BN.shape or candidate_BN.dtype != torch.bool:
        raise ValueError(f"candidates are {candidate_BN.dtype} {tuple(candidate_BN.shape)}, but bool {tuple(score_BN.shape)} is needed.")
    column_B1 = target_B[:, None]
    own_B1 = score_BN.gather(1, column_B1) if target_score_B is None else target_score_B[:, None]
    ahead_BN = (score_BN >= own_B1) & candidate_BN
    return 1 + ahead_BN.sum(dim=1) - ahead_BN.gather(1, column_B1).squeeze(1).long()


def compute_recall(rank_BP: Tensor, *, k: int) -> Tensor:
    """Compute each user's share of positives within the first `k` places -> (B,); rank 0 pads users with fewer positives."""
    positive_BP = rank_BP > 0
    hit_BP = positive_BP & (rank_BP <= k)
    return hit_BP.sum(dim=1) / positive_BP.sum(dim=1).clamp(min=1)


def compute_ndcg(rank_BP: Tensor, *, k: int, ideal: Ideal = "standard", retrieved_k: int = 20) -> Tensor:
    """Compute each user's NDCG@k with binary gains 1 / log2(rank + 1) -> (B,); rank 0 pads users with fewer positives.

    `ideal="retrieved"` is MICRO's variant: the ideal list holds only the positives within the first `retrieved_k` places.
    """
    if ideal not in ("standard", "retrieved"):
        raise ValueError(f"ideal is {ideal!r}, but it must be one of: standard, retrieved.")
    positive_BP = rank_BP > 0
    gain_BP = 1.0 / torch.log2(rank_BP.clamp(min=1).double() + 1.0)
    dcg_B = torch.where(positive_BP & (rank_BP <= k), gain_BP, 0.0).sum(dim=1)
    limit = retrieved_k if ideal == "retrieved" else torch.iinfo(torch.int64).max
    num_ideal_B = (positive_BP & (rank_BP <= limit)).sum(dim=1).clamp(max=k)
    discount_K = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64, device=rank_BP.device))
    ideal_K1 = torch.cat([discount_K.new_zeros(1), discount_K.cumsum(0)])
    ideal_B = ideal_K1[num_ideal_B]
    return torch.where(ideal_B > 0, dcg_B / ideal_B.clamp(min=1e-12), 0.0).to(torch.get_default_dtype())


def compute_rank_change(original_B: Tensor, generated_B: Tensor) -> Tensor:
    """Compute eq. 16, ΔR = (rk_ori - rk_gen) / (1 + rk_ori), for each user -> (B,); positive = the generated image ranks better.

    It lies between -(N - 1) / 2 and 1, and its mean is dominated by users whose original rank is small; report the median and
    `compute_rank_gain` beside it.
    """
    _check_ranks(original_B, generated_B)
    return (original_B - generated_B).to(torch.get_default_dtype()) / (1.0 + original_B)


def compute_rank_gain(original_B: Tensor, generated_B: Tensor) -> Tensor:
    """Compute log2(rk_ori / rk_gen) for each user -> (B,); +1 = the rank was halved."""
    _check_ranks(original_B, generated_B)
    return torch.log2(original_B.to(torch.get_default_dtype()) / generated_B)


def _check_ranks(original_B: Tensor, generated_B: Tensor) -> None:
    if original_B.shape != generated_B.shape:
        raise ValueError(f"there are {tuple(original_B.shape)} original and {tuple(generated_B.shape)} generated ranks.")
    if original_B.numel() and min(int(original_B.min()), int(generated_B.min())) < 1:
        raise ValueError("a rank is below 1; ranks count from 1 = best.")
