"""A small world with structure: clusters of items, users who like some clusters, and the three tables that the ranker reads."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.artifacts import build_table
from pipeline.ranker.config import RankerConfig
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS
from tests.configs import RANKER

Tables = tuple[pa.Table, pa.Table, pa.Table]


def build_world(num_users: int, num_items: int, *, num_clusters: int = 6, history: int = 8, dim: int = 12) -> Tables:
    """Users like two clusters; the reference is of a liked cluster and not in the history."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(num_clusters, 2, dim))
    cluster = np.arange(num_items) % num_clusters
    vectors = centers[cluster] + 0.7 * rng.normal(size=(num_items, 2, dim))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    ids = [f"item-{index:04d}" for index in range(num_items)]
    columns = [{"item_id": ids[i], "semantic": v[1].tolist(), "visual": v[0].tolist(), "clip_image": v[0].tolist()} for i, v in enumerate(vectors)]
    interactions, cases = [], []
    for user in range(num_users):
        liked = rng.permutation(np.flatnonzero(np.isin(cluster, rng.choice(num_clusters, 2, replace=False))))[: history + 1]
        seen, reference = [ids[index] for index in liked[:-1]], ids[liked[-1]]
        interactions += [{"user_id": f"user-{user:03d}", "item_id": item_id, "position": place} for place, item_id in enumerate(seen)]
        cases.append(
            {
                "case_id": f"case-{user:03d}",
                "user_id": f"user-{user:03d}",
                "split": "test",
                "history": seen,
                "reference_id": reference,
                "truth_id": None,
            }
        )
    return build_table(interactions, INTERACTIONS), build_table(cases, CASES), build_table(columns, EMBEDDINGS)


@pytest.fixture
def world() -> Callable[..., Tables]:
    return build_world


@pytest.fixture
def tiny_config() -> Callable[..., RankerConfig]:
    """Make a config of a few seconds' training; keyword arguments override it."""

    def make(**changes: object) -> RankerConfig:
        return replace(RANKER, **changes)

    return make
