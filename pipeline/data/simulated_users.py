"""What the data sets share whose users are simulated, so that the item that a user really wants is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_TRIES = 200  # draws of a user before the sizes are called impossible


def check_looks(looks: Sequence[str], known: Sequence[str], *, field: str, reference: str, reference_field: str) -> None:
    """Raise ValueError unless a config's `field` names at least two known looks, each once, and the reference's among them."""
    unknown = [look for look in looks if look not in known]
    if unknown:
        raise ValueError(f"{field} has {unknown[0]!r}, but it may hold only: {', '.join(known)}.")
    if len(set(looks)) != len(looks) or len(looks) < 2:
        raise ValueError(f"{field} is {list(looks)}, but it must name at least 2 different {field}.")
    if reference not in looks:
        raise ValueError(f"{reference_field} is {reference!r}, but it must be one of the {field}: {', '.join(looks)}.")


def make_user_rng(data_set: str, seed: int, user_index: int) -> np.random.Generator:
    """Make the generator of one user, so that a user does not depend on how many others there are."""
    digest = hashlib.sha256(f"{data_set}:{seed}:{user_index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def build_case_row(user: str, split: str, history: list[str], reference_id: str, truth_id: str | None) -> dict[str, Any]:
    """Build one row of the cases table; a user has one case."""
    return {
        "case_id": f"case-{user}",
        "user_id": f"user-{user}",
        "split": split,
        "history": history,
        "reference_id": reference_id,
        "truth_id": truth_id,
    }
