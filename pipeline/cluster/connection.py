"""Reach a Ray cluster, or start one on this machine, and say what it has."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

CHANGES_NO_RESULT = True
ROOT = Path(__file__).resolve().parents[2]
STORE_BYTES = 2**30  # of a cluster that is started here, for batches on their way; what does not fit goes to disk
# what decides bytes or quietens libraries, where the driver has it set; where models are cached is the worker's own affair
TAKEN_OVER = (
    *("OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED", "TQDM_DISABLE"),
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"),
)
HOW_TO_START = "`ray start --head` starts one (docs/cluster.md)"


def connect(address: str | None) -> None:
    """Connect to the cluster at `address`, else at RAY_ADDRESS, else to one that is started on this machine; ValueError if it cannot be reached."""
    name, where = ("runtime.ray_address", address) if address else ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS") or "local")
    check_address(name, where)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would ask a network
    if where == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would let its workers give way to every other program
    elif has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # which a cluster without tokens takes as well; Ray reads it when it is imported
    import ray

    if ray.is_initialized():
        return
    options = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if where == "local" else {}
    is_main = threading.current_thread() is threading.main_thread()  # others, such as those of a page, can set no handler
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.CRITICAL, **options)
        silence()
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"the Ray cluster {where} ({name}) cannot be used from here: {said}.") from error
    finally:
        for number, handler in before.items():  # Ray sets one of its own for SIGTERM
            signal.signal(number, handler)


def check_address(name: str, where: str) -> None:
    """Raise ValueError for an address that is none, or at which nobody answers."""
    if where in ("local", "auto"):
        return
    host, _, port = where.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(f"{name} is {where!r}, but it must be the head node's host:port, e.g. 10.0.0.1:6379, or auto for the cluster of this node.")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"no Ray cluster answers at {where} ({name}): {said}; {HOW_TO_START}.") from error


def has_token() -> bool:
    """Say whether this user has a token, without which a cluster that asks for one lets nobody in."""
    return bool({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()) or (Path.home() / ".ray" / "auth_token").is_file()


def silence() -> None:
    """Keep Ray from printing a paragraph for each worker that is gone: the pool hires another one, or says what is wrong in a sentence."""
    import ray._private.worker as printing

    printing.print_to_stdstream = lambda data, ignore_prefix: None  # no option does that


def list_nodes() -> list[dict[str, float]]:
    """Return the resources of every node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def build_environment() -> dict[str, str]:
    """Return the variables that a worker is started with: where the project is, and what the number of threads follows from."""
    taken = {name: value for name in TAKEN_OVER if (value := os.environ.get(name)) is not None}
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count() or 1)  # Ray would say 1
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    work = os.path.abspath(os.environ.get("DVC_ROOT") or Path.cwd())  # where trainings keep checkpoints
    return {**taken, "OMP_NUM_THREADS": threads, "PYTHONPATH": path, "DVC_ROOT": work}


def count_threads() -> int | None:
    """Return the number of torch's threads; None where torch is not loaded."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())
