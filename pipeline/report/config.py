"""The params of the report stage."""

from __future__ import annotations

from pydantic import NonNegativeInt

from pipeline.config import config_dataclass
from pipeline.metrics.intervals import MIN_USERS

FEW_USERS = 20  # below, a mean over users and its bootstrap interval say little


@config_dataclass
class ReportConfig:
    """How much the page shows; every field is explained in conf/config.yaml."""

    title: str
    num_users: NonNegativeInt
    num_concepts: NonNegativeInt
    num_rejected: NonNegativeInt


def describe_few_users(num_users: int) -> str:
    """Say what a mean over fewer than FEW_USERS users is worth."""
    if num_users == 1:
        return "One user has no interval, and says nothing of others."
    if num_users < MIN_USERS:
        return f"Means over {num_users} users say little of others: below {MIN_USERS} none has an interval or is called better or worse."
    return f"Means over {num_users} users say little of others, and their intervals are too narrow."
