"""Paired tests and the correction for making many of them.

Not in the paper, which tests nothing. Sources: Fisher's randomisation test of paired differences (signs flipped at random); Holm 1979.
Shapes: U users, R flips.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

NUM_FLIPS = 10_000
MAX_NUMBERS = 2**22  # signs drawn at once: 32 MiB, whatever the number of users


def compute_flip_p(
    first_by_user: Mapping[Hashable, float], second_by_user: Mapping[Hashable, float], *, seed: int, num_flips: int = NUM_FLIPS
) -> float | None:
    """Return the two-sided p-value that the mean of first - second, paired by user, is zero; at least 1/(R+1); None without a pair."""
    shared = sorted(first_by_user.keys() & second_by_user.keys(), key=str)
    if not shared:
        return None
    difference_U = np.array([first_by_user[user] - second_by_user[user] for user in shared], dtype=np.float64)
    observed = abs(difference_U.mean())
    generator = np.random.default_rng(seed)
    chunk = max(1, MAX_NUMBERS // len(difference_U))
    as_large = 0
    for start in range(0, num_flips, chunk):
        sign_RU = generator.integers(0, 2, size=(min(chunk, num_flips - start), len(difference_U))) * 2 - 1
        mean_R = np.abs(sign_RU @ difference_U) / len(difference_U)
        as_large += int((mean_R >= observed * (1 - 1e-12)).sum())  # the rounding of a sum is no evidence
    return (as_large + 1) / (num_flips + 1)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given: what is below a level is significant with all tests of the family counted."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
