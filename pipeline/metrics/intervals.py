"""95% percentile bootstrap intervals of a mean over users, and of a paired difference of two means.

Not in the paper, which prints bare means; here every figure carries n and an interval. The unit is the user: a user with
several cases counts once, with the mean of those cases, so that the interval speaks about new users and not about new cases.
Shapes: U users, R resamples.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_DRAWS = 262_144  # indices drawn at once: 2 MiB of int64, whatever the number of users


@dataclass(frozen=True)
class Interval:
    """A mean over n users; the bounds are None below two users, the value too when there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def average_by_user(user_ids: Sequence[Hashable], values: Sequence[float | None]) -> dict[Hashable, float]:
    """Average each user's values; None and NaN are left out, and so is a user without any value."""
    grouped: dict[Hashable, list[float]] = {}
    for user_id, value in zip(user_ids, values, strict=True):
        if value is not None and not math.isnan(value):
            grouped.setdefault(user_id, []).append(value)
    return {user_id: math.fsum(kept) / len(kept) for user_id, kept in grouped.items()}


def resample_means(value_U: np.ndarray, *, num_resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw U users with replacement R times and return the R means."""
    num_users = len(value_U)
    chunk = max(1, MAX_DRAWS // num_users)
    parts = []
    for start in range(0, num_resamples, chunk):
        index_RU = generator.integers(0, num_users, size=(min(chunk, num_resamples - start), num_users))
        parts.append(value_U[index_RU].mean(axis=1))
    return np.concatenate(parts)


def compute_mean_interval(by_user: dict[Hashable, float], *, seed: int, num_resamples: int = 2000, level: float = 0.95) -> Interval:
    """Return the mean over users with the percentile bootstrap interval of the given level."""
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(f"level must be between 0 and 1 and num_resamples at least 1, got {level} and {num_resamples}")
    value_U = np.array([by_user[user_id] for user_id in sorted(by_user, key=str)], dtype=np.float64)
    if len(value_U) == 0:
        return Interval(None, None, None, 0)
    mean = float(value_U.mean())
    if len(value_U) == 1:
        return Interval(mean, None, None, 1)
    mean_R = resample_means(value_U, num_resamples=num_resamples, generator=np.random.default_rng(seed))
    tail = (1 - level) / 2
    low, high = np.quantile(mean_R, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), len(value_U))


def compute_paired_interval(
    first_by_user: dict[Hashable, float],
    second_by_user: dict[Hashable, float],
    *,
    seed: int,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of first - second over the users that have both, with its interval."""
    shared = first_by_user.keys() & second_by_user.keys()
    difference = {user_id: first_by_user[user_id] - second_by_user[user_id] for user_id in shared}
    return compute_mean_interval(difference, seed=seed, num_resamples=num_resamples, level=level)
