"""Participants of known taste, for tests and for the power of a study before it is held.

A participant's liking of a picture is the method's strength, plus what this participant adds to the method, plus what this case does, plus a draw
from Gumbel's distribution; without the two additions these are the Plackett-Luce model's rankings. Shapes: P participants, C cases, M methods.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.study.votes import Votes

SPREAD = 0.5  # standard deviation of what participants, and cases, add to a method's log strength (ours)


def simulate_votes(
    methods: Sequence[str],
    log_strengths: Sequence[float],
    *,
    num_participants: int,
    num_cases: int,
    rng: np.random.Generator,
    participant_spread: float = SPREAD,
    case_spread: float = SPREAD,
) -> Votes:
    """Return the votes of a task in which everybody is asked about every case."""
    shape = (num_participants, num_cases, len(methods))
    liking_PCM = (
        np.asarray(log_strengths, dtype=np.float64)
        + rng.normal(scale=participant_spread, size=shape)[:, :1]
        + rng.normal(scale=case_spread, size=shape)[:1]
        + rng.gumbel(size=shape)
    )
    order_PCM = np.argsort(-liking_PCM, axis=2)
    return Votes(tuple(methods), np.argsort(order_PCM, axis=2) + 1.0)
