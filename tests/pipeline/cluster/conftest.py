"""A small Ray cluster on this machine, for the tests that need one; without the extra `cluster` they are skipped."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import engine

STORE_BYTES = 200 * 2**20


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Start a node with two CPUs, to which this process connects on first use."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: make setup EXTRAS=cluster")
    from ray.cluster_utils import Cluster

    os.environ.update(RAY_AUTH_MODE="disabled", RAY_worker_niceness="0")  # whether or not this user has a token
    from pipeline.cluster.pool import open_pool

    with socket.socket() as free:  # so that no other cluster of this machine is met
        free.bind(("", 0))
        port = free.getsockname()[1]
    options = {"num_cpus": 2, "object_store_memory": STORE_BYTES, "include_dashboard": False, "gcs_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    yield cluster
    open_pool.cache_clear()
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="session")
def head(cluster: Any) -> str:
    """Return the address of that cluster."""
    return cluster.address


@pytest.fixture
def on_ray(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute maps on that cluster."""
    monkeypatch.setattr(engine.Current, "engine", "ray")
    monkeypatch.setattr(engine.Current, "address", head)
    monkeypatch.setattr(engine.Current, "needs_gpu", False)
