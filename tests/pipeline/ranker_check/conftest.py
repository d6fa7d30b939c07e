"""A catalogue of looks by categories, and users who like one look here and another one there: what no linear score of a look can say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.artifacts import build_table
from pipeline.ranker_check.material import CheckData, build_catalogue, build_data
from pipeline.schemas import INTERACTIONS

LOOKS, CATEGORIES = 3, ("animals", "food")


def make_interactions(histories: dict[str, list[str]]) -> pa.Table:
    rows = [{"user_id": user, "item_id": item, "position": place} for user, items in histories.items() for place, item in enumerate(items)]
    return build_table(rows, INTERACTIONS)


def build_world(*, num_users: int = 60, num_each: int = 12, history: int = 8) -> CheckData:
    """User n likes look n mod 3 on animals and the next one on food."""
    rng = np.random.default_rng(0)
    names = [f"{category}-{look}-{n:02d}" for category in CATEGORIES for look in range(LOOKS) for n in range(num_each)]
    base = np.eye(LOOKS, 6)[[int(name.split("-")[1]) for name in names]]
    image_NF = base + 0.1 * rng.normal(size=base.shape)
    image_NF = (image_NF / np.linalg.norm(image_NF, axis=1, keepdims=True)).astype(np.float32)
    catalogue = build_catalogue(names, image_NF, {name: name.split("-")[0] for name in names})
    histories = {}
    for user in range(num_users):
        liked = [f"animals-{user % LOOKS}", f"food-{(user + 1) % LOOKS}"]
        pool = [name for name in names if name[:-3] in liked and not name.endswith("00")]  # nobody sees the 00 ones
        histories[f"u{user:03d}"] = [str(name) for name in rng.permutation(pool)[:history]]
    return build_data(make_interactions(histories), catalogue)


@pytest.fixture(scope="session")
def world() -> CheckData:
    return build_world()
