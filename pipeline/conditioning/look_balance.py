"""How much of the words and how much of the look: the part of the calibrator that look tokens bring along (eq. 9 is about the same balance).

Not in the paper. Of a case's look tokens and E^g it makes an action: a shift of the tokens in few directions, those in which the looks of
training cases differ most, and the logarithms of two factors on guidance, to the words and from there to the look. It starts at zero, where
nothing is changed; being so small, it is what the policy explores (`pipeline/reflection/look_policy.py`).

Shapes: B cases, M look tokens, d token width, K tokens of an encoded prompt, P directions, A = P + 2 numbers of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_LOG_FACTOR = 1.5  # guidance is at most 4.5 times as far, or as near
NUM_FACTORS = 2


@dataclass(frozen=True)
class LookSetting:
    """Look tokens, and the factors on both parts of guidance; the leading dimensions are those of the actions."""

    tokens: Tensor  # (..., M, d)
    words: Tensor  # (...)
    look: Tensor  # (...)

    def flatten(self) -> LookSetting:
        """Join the two leading dimensions."""
        return LookSetting(self.tokens.flatten(0, 1), self.words.flatten(0, 1), self.look.flatten(0, 1))


class LookBalance(nn.Module):
    """From look tokens and E^g to an action, and from an action to what is drawn."""

    def __init__(self, direction_PMD: Tensor, no_look_MD: Tensor) -> None:
        super().__init__()
        num_directions, _, token_dim = direction_PMD.shape
        self.read = nn.Linear(2 * token_dim, num_directions + NUM_FACTORS)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)
        self.direction_PMD: Tensor
        self.no_look_MD: Tensor
        self.register_buffer("direction_PMD", direction_PMD.detach().clone())
        self.register_buffer("no_look_MD", no_look_MD.detach().clone())

    def forward(self, tokens_BMD: Tensor, global_BKD: Tensor, global_mask_BK: Tensor) -> Tensor:
        """Return the action (B, A) of each case."""
        mask_BK1 = global_mask_BK[:, :, None].to(global_BKD.dtype)
        words_BD = (global_BKD * mask_BK1).sum(dim=1) / mask_BK1.sum(dim=1).clamp(min=1.0)
        seen_BD = tokens_BMD.mean(dim=1)
        return self.read(torch.cat([functional.layer_norm(part_BD, part_BD.shape[1:]) for part_BD in (seen_BD, words_BD)], dim=1))

    def set_look(self, tokens: Tensor, action: Tensor) -> LookSetting:
        """Carry out actions (..., A) on look tokens (..., M, d)."""
        shift, factors = action[..., :-NUM_FACTORS], action[..., -NUM_FACTORS:]
        factors = (MAX_LOG_FACTOR * torch.tanh(factors / MAX_LOG_FACTOR)).exp()
        return LookSetting(tokens + torch.einsum("...p,pmd->...md", shift, self.direction_PMD), factors[..., 0], factors[..., 1])


def find_directions(tokens_NMD: Tensor, *, count: int) -> Tensor:
    """Return at most `count` directions (P, M, d) in which looks differ most, each as long as their deviation in it: the principal components."""
    flat_NX = tokens_NMD.double().flatten(1)
    _, deviation_R, direction_RX = torch.linalg.svd(flat_NX - flat_NX.mean(dim=0), full_matrices=False)
    deviation_R = deviation_R / max(1, len(flat_NX) - 1) ** 0.5
    known = int((deviation_R > 1e-6 * deviation_R.max()).sum())
    count = min(count, max(known, 1))
    return (deviation_R[:count, None] * direction_RX[:count]).float().unflatten(1, tokens_NMD.shape[1:])
