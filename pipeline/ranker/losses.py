"""The ranker's losses as pure functions: BPR, regularisation, InfoNCE between the views (MICRO, Zhang et al.).

Departures:
1. InfoNCE may use a sample of the items as anchors instead of all of them: an unbiased estimate of the same mean, every anchor
   against all items. `anchor_A = arange(N)` is MICRO's form.
2. InfoNCE is computed in blocks of anchors that are recomputed in the backward pass, so that memory grows with N and not with N^2,
   and with log-sum-exp, so that a small temperature does not overflow.

Shapes: B batch rows, N items, A anchors, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pipeline.ranker.graph import normalise_rows, split_rows


def compute_bpr_loss(positive_B: Tensor, negative_B: Tensor) -> Tensor:
    """Compute minus the mean log-sigmoid of (score of the seen item - score of the unseen item) -> ()."""
    return -functional.logsigmoid(positive_B - negative_B).mean()


def compute_regularisation(*vectors_BD: Tensor) -> Tensor:
    """Compute half the summed squares of the batch's vectors, divided by its rows -> ()."""
    return 0.5 * torch.stack([vector.square().sum() for vector in vectors_BD]).sum() / len(vectors_BD[0])


def compute_contrastive_loss(view_ND: Tensor, fused_ND: Tensor, anchor_A: Tensor, *, temperature: float) -> Tensor:
    """Compute InfoNCE of each anchor's view against its fused vector, mean over anchors -> ().

    Negatives are the views and the fused vectors of all other items.
    """
    view_ND, fused_ND = normalise_rows(view_ND), normalise_rows(fused_ND)
    blocks = split_rows(len(anchor_A), len(view_ND))
    if len(blocks) == 1:
        return _sum_info_nce(view_ND, fused_ND, anchor_A, temperature) / len(anchor_A)
    parts = [checkpoint(_sum_info_nce, view_ND, fused_ND, anchor_A[rows], temperature, use_reentrant=False) for rows in blocks]
    return torch.stack(parts).sum() / len(anchor_A)


def _sum_info_nce(view_ND: Tensor, fused_ND: Tensor, anchor_A: Tensor, temperature: float) -> Tensor:
    anchor_AD = functional.embedding(anchor_A, view_ND)
    within_AN = anchor_AD @ view_ND.T / temperature
    within_AN = within_AN.scatter(1, anchor_A[:, None], -torch.inf)  # an item is no negative of itself
    between_AN = anchor_AD @ fused_ND.T / temperature
    positive_A = between_AN.gather(1, anchor_A[:, None]).squeeze(1)
    return (torch.logaddexp(within_AN.logsumexp(dim=1), between_AN.logsumexp(dim=1)) - positive_A).sum()
