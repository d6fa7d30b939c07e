"""The ranker's losses as pure functions: BPR, regularisation, InfoNCE between the views (MICRO, Zhang et al.).

Departures:
1. InfoNCE may use a sample of the items as anchors instead of all of them: an unbiased estimate of the same mean, every anchor
   against all items.
2. Over all items, MICRO's form, InfoNCE and its gradient come from one pass over blocks of anchors (`_InfoNCE`): the similarities to
   both kinds of negatives are one product in one buffer that fits the processor's cache. Nothing is computed twice, and the
   similarities of the views among themselves, which are symmetric, are multiplied once and not twice for the gradient.
3. The negatives of a sample of anchors are summed over blocks of items, which are computed again in the backward pass (`_LogSum`): what is held
   of them grows neither with N^2 nor with A N, and every item's row is read once in each pass.

Shapes: B batch rows, N items, A anchors, D embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pipeline.ranker.graph import normalise_rows, split_rows

MIN_TEMPERATURE = 0.025  # of the one pass: exp(1 / temperature), the largest of its terms, is far from float32's largest


def compute_bpr_loss(positive_B: Tensor, negative_B: Tensor) -> Tensor:
    """Compute minus the mean log-sigmoid of (score of the seen item - score of the unseen item) -> ()."""
    return -functional.logsigmoid(positive_B - negative_B).mean()


def compute_regularisation(*vectors_BD: Tensor) -> Tensor:
    """Compute half the summed squares of the batch's vectors, divided by its rows -> ()."""
    return 0.5 * torch.stack([vector.square().sum() for vector in vectors_BD]).sum() / len(vectors_BD[0])


def compute_contrastive_loss(view_ND: Tensor, fused_ND: Tensor, anchor_A: Tensor | None = None, *, temperature: float) -> Tensor:
    """Compute InfoNCE of each anchor's view (None: of all items) against its fused vector, mean over anchors -> ().

    Negatives are the views and the fused vectors of all other items.
    """
    if anchor_A is None and temperature >= MIN_TEMPERATURE:
        return _InfoNCE.apply(normalise_rows(view_ND), normalise_rows(fused_ND), temperature)
    if anchor_A is None:
        anchor_A = torch.arange(len(view_ND), device=view_ND.device)
    if len(split_rows(len(anchor_A), len(view_ND))) == 1:
        return _sum_info_nce(normalise_rows(view_ND), normalise_rows(fused_ND), anchor_A, temperature) / len(anchor_A)
    anchor_AD = normalise_rows(functional.embedding(anchor_A, view_ND)) / temperature
    positive_A = (anchor_AD * normalise_rows(functional.embedding(anchor_A, fused_ND))).sum(dim=1)
    return (_LogSum.apply(anchor_AD, view_ND, fused_ND, anchor_A) - positive_A).mean()


def _sum_info_nce(view_ND: Tensor, fused_ND: Tensor, anchor_A: Tensor, temperature: float) -> Tensor:
    anchor_AD = functional.embedding(anchor_A, view_ND)
    within_AN = anchor_AD @ view_ND.T / temperature
    within_AN = within_AN.scatter(1, anchor_A[:, None], -torch.inf)  # an item is no negative of itself
    between_AN = anchor_AD @ fused_ND.T / temperature
    positive_A = between_AN.gather(1, anchor_A[:, None]).squeeze(1)
    return (torch.logaddexp(within_AN.logsumexp(dim=1), between_AN.logsumexp(dim=1)) - positive_A).sum()


class _InfoNCE(torch.autograd.Function):
    """Mean InfoNCE of unit rows over all items, with its gradient computed beside the value.

    With e_ij = exp(cosine / temperature) and s_i the sum of anchor i's terms, the gradient of view i from the views alone is the
    sum of e_ij (1 / s_i + 1 / s_j) view_j, as e_ij = e_ji. Block by block that needs only the columns whose sums are known by then.
    """

    @staticmethod
    def forward(ctx: Any, view_ND: Tensor, fused_ND: Tensor, temperature: float) -> Tensor:
        num_items = len(view_ND)
        blocks = split_rows(num_items, 2 * num_items)
        unit_MD = torch.cat([view_ND, fused_ND])  # M = 2N
        buffer_BM = unit_MD.new_empty((blocks[0].stop, 2 * num_items))
        inverse_N, loss_N = unit_MD.new_empty(num_items), unit_MD.new_empty(num_items)
        gradient_MD = torch.zeros_like(unit_MD)
        view_gradient_ND, fused_gradient_ND = gradient_MD[:num_items], gradient_MD[num_items:]
        for rows in blocks:
            scaled_BD = view_ND[rows] / temperature
            term_BM = torch.mm(scaled_BD, unit_MD.T, out=buffer_BM[: len(scaled_BD)])
            within_BN, between_BN = term_BM[:, :num_items], term_BM[:, num_items:]
            within_BN[:, rows].fill_diagonal_(-torch.inf)  # an item is no negative of itself
            positive_B = between_BN[:, rows].diagonal().clone()
            sum_B = term_BM.exp_().sum(dim=1)
            loss_N[rows] = sum_B.log() - positive_B
            inverse_N[rows] = sum_B.reciprocal()
            view_gradient_ND[rows] += inverse_N[rows, None] * (between_BN @ fused_ND) - fused_ND[rows]
            fused_gradient_ND.addmm_(between_BN.T, inverse_N[rows, None] * view_ND[rows])
            known_BN = within_BN[:, : rows.stop].mul_(inverse_N[rows, None] + inverse_N[: rows.stop])
            view_gradient_ND[rows].addmm_(known_BN, view_ND[: rows.stop])
            view_gradient_ND[: rows.start].addmm_(known_BN[:, : rows.start].T, view_ND[rows])
        fused_gradient_ND.sub_(view_ND)
        ctx.save_for_backward(gradient_MD.div_(temperature * num_items))
        return loss_N.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient_MD,) = ctx.saved_tensors
        return *(gradient_MD * gradient).chunk(2), None


class _LogSum(torch.autograd.Function):
    """Log-sum-exp of each anchor's products with the unit rows of both kinds of vectors, its own view left out -> (A,)."""

    @staticmethod
    def forward(ctx: Any, anchor_AD: Tensor, view_ND: Tensor, fused_ND: Tensor, anchor_A: Tensor) -> Tensor:
        sum_A = anchor_AD.new_full((len(anchor_A),), -torch.inf)
        for vectors_ND, own_A in ((view_ND, anchor_A), (fused_ND, None)):
            for rows in split_rows(len(vectors_ND), len(anchor_A)):
                logit_AB = _multiply(anchor_AD, normalise_rows(vectors_ND[rows]), own_A, start=rows.start)
                sum_A = torch.logaddexp(sum_A, logit_AB.logsumexp(dim=1))
        ctx.save_for_backward(anchor_AD, view_ND, fused_ND, anchor_A, sum_A)
        return sum_A

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_A: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        anchor_AD, view_ND, fused_ND, anchor_A, sum_A = ctx.saved_tensors
        weighted_AD, anchor_gradient_AD = gradient_A[:, None] * anchor_AD, torch.zeros_like(anchor_AD)
        gradients = torch.empty_like(view_ND), torch.empty_like(fused_ND)
        for vectors_ND, own_A, gradient_ND in zip((view_ND, fused_ND), (anchor_A, None), gradients, strict=True):
            for rows in split_rows(len(vectors_ND), len(anchor_A)):
                with torch.enable_grad():
                    vectors_BD = vectors_ND[rows].detach().requires_grad_()
                    unit_BD = normalise_rows(vectors_BD)
                share_AB = _multiply(anchor_AD, unit_BD.detach(), own_A, start=rows.start).sub_(sum_A[:, None]).exp_()
                anchor_gradient_AD.addmm_(share_AB, unit_BD.detach())
                (gradient_ND[rows],) = torch.autograd.grad(unit_BD, vectors_BD, share_AB.T @ weighted_AD)
        return gradient_A[:, None] * anchor_gradient_AD, *gradients, None


def _multiply(anchor_AD: Tensor, unit_BD: Tensor, own_A: Tensor | None, *, start: int) -> Tensor:
    """Multiply anchors with the rows of a block that begins at item `start`; an item is no negative of itself, where its anchors are given."""
    logit_AB = anchor_AD @ unit_BD.T
    if own_A is not None:
        place_A = own_A - start
        (held_H,) = torch.nonzero((place_A >= 0) & (place_A < len(unit_BD)), as_tuple=True)
        logit_AB[held_H, place_A[held_H]] = -torch.inf
    return logit_AB
