"""Random kills of workers, nodes and drivers; minutes. Run: python -m pytest tests/pipeline/cluster/test_faults.py -m slow"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is not installed: make setup EXTRAS=cluster")

NUM_ROWS, SECONDS = 700, 0.4  # 175 batches, on four workers at least 18 seconds
NUM_KILLS = 24
STORE_BYTES = 200 * 2**20


class Scene:
    """A cluster of a head and two nodes, and a driver that is started again whenever it was killed."""

    def __init__(self, scratch: Path) -> None:
        from ray.cluster_utils import Cluster

        os.environ.update(RAY_AUTH_MODE="disabled", RAY_worker_niceness="0")  # whether or not this user has a token
        self.scratch, self.table = scratch, scratch / "table.parquet"
        options = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
        with socket.socket() as free:  # so that no other cluster of this machine is met
            free.bind(("", 0))
            port = free.getsockname()[1]
        self.cluster = Cluster(initialize_head=True, head_node_args={**options, "num_cpus": 0, "include_dashboard": False, "gcs_server_port": port})
        self.add_node: Callable[[], None] = lambda: self.nodes.append(self.cluster.add_node(**options))
        self.nodes: list = []
        self.add_node()
        self.add_node()
        self.num_drivers = 0
        self.start_driver()

    def start_driver(self) -> None:
        """Start, or go on."""
        words = [sys.executable, "-m", "tests.pipeline.cluster.driver", "ray", self.table, self.scratch, NUM_ROWS, SECONDS]
        self.num_drivers += 1
        environment = {**os.environ, "RAY_ADDRESS": self.cluster.address, "DVC_ROOT": str(self.scratch)}
        with open(self.scratch / "driver.log", "a") as log:
            self.driver = subprocess.Popen(list(map(str, words)), env=environment, stdout=log, stderr=log, start_new_session=True)

    def count_finished(self) -> int:
        """Count the parts that the driver has ever committed."""
        return 1 + max((int(path.name.split("-")[2]) for path in self.scratch.rglob("part-*.parquet")), default=-1)

    def has_ended(self) -> bool:
        """Say whether the driver has come to its end; AssertionError if that was a bad one."""
        code = self.driver.poll()
        assert code in (None, 0), (self.scratch / "driver.log").read_text()
        return code == 0

    def kill_busy(self, chance: random.Random) -> bool:
        """Kill a worker in the middle of a batch."""
        busy = [int(path.name.removeprefix("busy-")) for path in self.scratch.glob("busy-*")]
        busy = [process for process in busy if is_worker(process)]
        return bool(busy) and kill(chance.choice(busy))

    def kill_worker(self, chance: random.Random) -> bool:
        """Kill a worker whatever it is doing: starting, loading its model, waiting."""
        raylets = {node.all_processes["raylet"][0].process.pid for node in self.nodes}
        found = [process for process in list_processes() if read_parent(process) in raylets and is_worker(process)]
        return bool(found) and kill(chance.choice(found))

    def kill_node(self, chance: random.Random) -> bool:
        """Kill a whole node without a word, and let another one join."""
        node = self.nodes.pop(chance.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.add_node()
        return True

    def kill_driver(self, chance: random.Random) -> bool:
        """Kill the driver and start it again."""
        kill(self.driver.pid)
        self.driver.wait()
        self.start_driver()
        return True


def kill(process: int) -> bool:
    """kill -9; say whether there was somebody to kill."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def list_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def read_parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_worker(process: int) -> bool:
    """Say whether a process is a worker; a node's own agents call themselves alike, and take the node with them."""
    try:
        title = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return b"ray::" in title and b"Agent" not in title


def test_after_any_kills_the_run_ends_with_the_same_bytes_and_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(os.environ.get("KILL_SEED", "0"))
    chance, killed = random.Random(seed), Counter()
    local, scratch = tmp_path / "local", tmp_path / "scratch"
    local.mkdir()
    scratch.mkdir()
    words = [sys.executable, "-m", "tests.pipeline.cluster.driver", "local", local / "table.parquet", local, NUM_ROWS, 0]
    undisturbed = subprocess.run(list(map(str, words)), env={**os.environ, "DVC_ROOT": str(local)}, capture_output=True, text=True, check=True)
    scene = Scene(scratch)
    try:
        kinds = [scene.kill_busy] * 3 + [scene.kill_worker] * 2 + [scene.kill_node] * 2 + [scene.kill_driver]
        deadline, goal = time.monotonic() + 1500, 0
        while not scene.has_ended():
            assert time.monotonic() < deadline, (killed, (scratch / "driver.log").read_text())
            time.sleep(chance.uniform(0.05, 0.5))
            way = chance.choice(kinds)
            if killed.total() < NUM_KILLS and scene.count_finished() >= goal and not scene.has_ended() and way(chance):
                killed[way.__name__] += 1
                goal = scene.count_finished() + chance.randint(0, 5)  # batches until the next one
    finally:
        scene.driver.kill()
        scene.cluster.shutdown()
    print(f"seed {seed}: {dict(killed)}, {scene.num_drivers} drivers, {len(list(scratch.glob('loaded-*')))} workers")
    assert killed.total() == NUM_KILLS, killed
    assert (scratch / "table.parquet").read_bytes() == (local / "table.parquet").read_bytes()
    parts = list(scratch.rglob("part-*.parquet"))
    hashes = [row_hash for part in parts for row_hash in pq.read_table(part, columns=["row_hash"])["row_hash"].to_pylist()]
    assert len(hashes) == len(set(hashes)) == NUM_ROWS
    *lines, last = (scratch / "driver.log").read_text().splitlines()
    assert last.split()[1] == undisturbed.stdout.split()[1]  # as many rows are rejected
    assert not [line for line in lines if not re.match(r"toy: (\d+/\d+, |no worker has started yet)", line)], lines
