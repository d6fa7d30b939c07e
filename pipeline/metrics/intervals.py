"""95% percentile bootstrap intervals of a mean over users, of a paired difference of two means, and of a mean over the users of several seeds.

Not in the paper, which prints bare means; here every figure carries n and an interval. The unit is the user: a user with
several cases counts once, with the mean of those cases, so that the interval speaks about new users and not about new cases.
Shapes: U users.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

MIN_USERS = 10  # below, a bootstrap over so few values is far too narrow, and no interval is given
MAX_DRAWS = 32_768  # indices drawn at once: 256 KiB, which stay in the cache, whatever the number of users


@dataclass(frozen=True)
class Interval:
    """A mean over n users; the bounds are None below MIN_USERS, the value too when there is none."""

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


def compute_mean_interval(by_user: dict[Hashable, float], *, seed: int, num_resamples: int = 2000, level: float = 0.95) -> Interval:
    """Return the mean over users with the percentile bootstrap interval of the given level, if there are enough users for one."""
    from scipy.stats import bootstrap

    if not 0 < level < 1 or num_resamples < 2:
        raise ValueError(f"level must be between 0 and 1 and num_resamples at least 2, got {level} and {num_resamples}")
    value_U = np.array([by_user[user_id] for user_id in sorted(by_user, key=str)], dtype=np.float64)
    if len(value_U) == 0:
        return Interval(None, None, None, 0)
    mean = float(value_U.mean())
    if len(value_U) < MIN_USERS:
        return Interval(mean, None, None, len(value_U))
    found = bootstrap(
        (value_U,),
        np.mean,
        n_resamples=num_resamples,
        batch=max(1, MAX_DRAWS // len(value_U)),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(value_U))


def compute_nested_interval(
    by_seed_user: dict[tuple[Hashable, Hashable], float], *, seed: int, num_resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Return the mean over the users of all seeds; its interval is that of a bootstrap over seeds and, within each, over its users.

    Users are (seed, user). With a single seed it is the bootstrap over users; n counts users.
    """
    groups: dict[Hashable, list[float]] = {}
    for key in sorted(by_seed_user, key=str):
        groups.setdefault(key[0], []).append(by_seed_user[key])
    values = [np.array(group, dtype=np.float64) for group in groups.values()]
    count = sum(map(len, values))
    if not count:
        return Interval(None, None, None, 0)
    mean = math.fsum(math.fsum(group) for group in groups.values()) / count
    if count < MIN_USERS:
        return Interval(mean, None, None, count)
    rng = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for place in range(num_resamples):
        drawn = [values[index][rng.integers(len(values[index]), size=len(values[index]))] for index in rng.integers(len(values), size=len(values))]
        means[place] = np.concatenate(drawn).mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), count)


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
