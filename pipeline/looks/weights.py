"""How much each history item's look counts for a reference: by similarity to it, and by agreement with the others. Pure functions.

Not in the paper, which averages the k retrieved vectors (eq. 5). Departures:
1. The whole history counts, by a softmax of the retrieval's own similarity over a temperature: a hard cut at k throws away what agrees.
2. Optional consensus: items whose looks agree with the others' count more, since what is not liked is liked by nobody's rule.

Shapes: N items of a history, F look width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def compute_look_weights(similarity_N: Tensor, look_NF: Tensor, *, temperature: float, consensus: float) -> Tensor:
    """Compute softmax(similarity / temperature + consensus * agreement): (N,), positive, sum 1."""
    logit_N = similarity_N.float() / temperature
    if consensus > 0:
        logit_N = logit_N + consensus * compute_agreement(torch.softmax(logit_N, dim=0), look_NF)
    return torch.softmax(logit_N, dim=0)


def compute_agreement(weight_N: Tensor, look_NF: Tensor) -> Tensor:
    """Compute each item's mean cosine with the looks of the other items, by their weights: (N,) in [-1, 1]; 0 for an item without others."""
    unit_NF = functional.normalize(look_NF, dim=1)
    others_NN = weight_N.expand(len(weight_N), -1).clone().fill_diagonal_(0)
    others_NN = others_NN / others_NN.sum(dim=1, keepdim=True).clamp(min=torch.finfo(others_NN.dtype).tiny)
    return ((unit_NF @ unit_NF.T) * others_NN).sum(dim=1)
