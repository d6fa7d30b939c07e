"""Paired tests and the correction for making many of them.

Not in the paper, which tests nothing. Sources: Fisher's randomisation test of paired differences (signs flipped at random); Holm 1979.
Shapes: U users, R flips.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

NUM_FLIPS = 10_000
MAX_SIGNS = 2**18  # drawn at once: 2 MiB, whatever the number of users


def compute_flip_p(
    first_by_user: Mapping[Hashable, float], second_by_user: Mapping[Hashable, float], *, seed: int, num_flips: int = NUM_FLIPS
) -> float | None:
    """Return the two-sided p-value that the mean of first - second, paired by user, is zero; None without a pair.

    With R flips it is at least 1/(R+1); of few users (up to 13 by default) all flips are looked at, and it is exact.
    """
    from scipy.stats import permutation_test

    shared = sorted(first_by_user.keys() & second_by_user.keys(), key=str)
    if not shared:
        return None
    if len(shared) == 1:
        return 1.0  # both flips are as large
    difference_U = np.array([first_by_user[user] - second_by_user[user] for user in shared], dtype=np.float64)
    found = permutation_test(
        (difference_U,),
        measure_size,
        permutation_type="samples",
        alternative="greater",
        n_resamples=num_flips,
        batch=max(1, MAX_SIGNS // len(difference_U)),
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def measure_size(value_RU: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean's distance from zero, which is what a two-sided test compares."""
    return np.abs(value_RU.mean(axis=axis))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given: what is below a level is significant with all tests of the family counted."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
