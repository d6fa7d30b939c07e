"""The policy where look tokens stand beside P^gen: it explores an action of few numbers instead of all of P^gen (paper: eq. 12).

Choices:
1. Noise on every entry of P^gen (some thousand numbers) gives an estimate with a cosine of about 0.02 to the true gradient. Here the action
   is a shift of the look tokens in few directions and two factors on guidance (`pipeline/conditioning/look_balance.py`), `look_sigma` in each.
2. Perturbations come in antithetic pairs, e and -e: what they share, the case's own level, leaves the estimate. An odd one has no partner.
3. P^gen itself is not perturbed; calibrator and mapper learn by the other two losses.

Shapes: B cases, R perturbations, K = 1 + R images of a case, A numbers of an action, M look tokens, d token width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.conditioning.look_balance import LookBalance, LookSetting
from pipeline.randomness import make_generator
from pipeline.reflection.config import PolicyReading
from pipeline.reflection.losses import check_shape, compute_rank_loss


def draw_pairs(width: int, case_ids: Sequence[str], *, num_noises: int, sigma: float, seed: int, step: int) -> Tensor:
    """Draw e ~ N(0, sigma^2), each followed by -e -> (B, R, A) on the CPU; a case's noise depends on (seed, step, case) only."""
    drawn = []
    for case_id in case_ids:
        generator = make_generator(seed, "look-perturbation", str(step), case_id)
        half_HA = sigma * torch.randn((num_noises + 1) // 2, width, generator=generator)
        drawn.append(torch.stack([half_HA, -half_HA], dim=1).flatten(0, 1)[:num_noises])
    return torch.stack(drawn)


def set_looks(balance: LookBalance, tokens_BMD: Tensor, action_BKA: Tensor) -> LookSetting:
    """Carry out K actions on each case's look tokens, without gradient -> settings (B, K)."""
    with torch.no_grad():
        return balance.set_look(tokens_BMD[:, None].expand(-1, action_BKA.shape[1], -1, -1), action_BKA)


def build_look_actions(action_BA: Tensor, noise_BRA: Tensor) -> Tensor:
    """Stack the unperturbed action (index 0) and its perturbations -> (B, 1 + R, A), detached."""
    check_shape("action", action_BA, (len(noise_BRA), noise_BRA.shape[2]))
    center_B1A = action_BA.detach()[:, None]
    return torch.cat([center_B1A, center_B1A + noise_BRA.to(action_BA)], dim=1)


def compute_look_rank_loss(action_BA: Tensor, noise_BRA: Tensor, advantage_BR: Tensor, *, sigma: float, reading: PolicyReading) -> Tensor:
    """Compute eq. 12 for actions: they are a prompt of a single row -> ()."""
    mask_B1 = torch.ones(len(action_BA), 1, dtype=torch.bool, device=action_BA.device)
    return compute_rank_loss(action_BA[:, None], noise_BRA[:, :, None], advantage_BR, mask_B1, sigma=sigma, reading=reading)
