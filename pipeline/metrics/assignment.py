"""Do a user's own images carry the user's style, or would those of other users do as well? A permutation test of the whole assignment.

Not in the paper. What is shuffled among the users is what their images look like; what they wanted stays. A method that knows nothing of a user's
taste has about the same share right under every assignment, however often it draws what many like.
Shapes: U users, R permutations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_PERMUTATIONS = 9_999
MAX_DRAWS = 2**18  # at once


def compute_assignment_p(drawn: Sequence[str], wanted: Sequence[str], *, seed: int, num_permutations: int = NUM_PERMUTATIONS) -> float | None:
    """Return the one-sided p-value that the share of images in the wanted style is that of images handed out at random; None below two users.

    With R permutations it is at least 1 / (R + 1); of few users (up to 7 by default) all are looked at, and it is exact.
    """
    from scipy.stats import permutation_test

    if len(drawn) < 2:
        return None
    code_of = {style: code for code, style in enumerate(sorted({*drawn, *wanted}))}
    drawn_U, wanted_U = (np.array([code_of[style] for style in styles]) for styles in (drawn, wanted))

    def count_right(code_RU: np.ndarray, axis: int = -1) -> np.ndarray:
        return (code_RU == wanted_U).sum(axis=axis)

    found = permutation_test(
        (drawn_U,),
        count_right,
        permutation_type="pairings",
        alternative="greater",
        n_resamples=num_permutations,
        batch=max(1, MAX_DRAWS // len(drawn_U)),
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)
