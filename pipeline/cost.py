"""What work costs, seconds and peak memory: kept beside the finished rows, so that a row that is reused still knows what it took.

A measured time is never part of an out, whose bytes must not differ between two runs or machines: it is kept in `.work/costs/`, under the hash
of the file that was made.
"""

from __future__ import annotations

import hashlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.json_files import read_json, write_json
from pipeline.rows import Rejection, Row
from pipeline.work import work_dir

if TYPE_CHECKING:
    import torch

CHANGES_NO_RESULT = True
COLUMNS = (pa.field("seconds", pa.float64()), pa.field("peak_memory_mb", pa.float64()))  # of a ledger whose rows are measured
Compute = Callable[[list[Row]], Sequence[dict[str, Any] | Rejection]]


def keep_cost(made: Path, cost: dict[str, Any]) -> None:
    """Keep what it cost to make a file."""
    write_json(find_place(made), cost)


def find_cost(made: Path) -> dict[str, Any] | None:
    """Return what it cost to make a file with these bytes, None where it was not made here."""
    place = find_place(made)
    return read_json(place) if place.is_file() else None


def find_place(made: Path) -> Path:
    """Return where the cost of a file is kept."""
    with made.open("rb") as file:
        return work_dir() / "costs" / f"{hashlib.file_digest(file, 'sha256').hexdigest()}.json"


def describe_training(seconds: float, device: torch.device) -> dict[str, Any]:
    """Return the cost of a training in this process."""
    return {"seconds": seconds, "peak_memory_mb": read_peak_memory(device), **describe_machine(device)}


def measure_rows(compute: Compute, device: torch.device) -> Compute:
    """Wrap the `compute` of a map over rows: every row also holds its share of its batch's seconds, and the process's peak memory until then."""

    def measured(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        started = time.monotonic()
        outcomes = compute(batch)
        cost = {"seconds": (time.monotonic() - started) / len(batch), "peak_memory_mb": read_peak_memory(device)}
        return [outcome if isinstance(outcome, Rejection) else {**outcome, **cost} for outcome in outcomes]

    return measured


def read_peak_memory(device: torch.device) -> float:
    """Return the most memory in 1e6 bytes that this process has held so far: on the GPU what torch allocated, else what was resident."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e6
    return read_peak_resident() / 1e6


def read_peak_resident() -> int:
    """Return the most bytes that were resident in this process; where the system has no /proc, what started it counts as well."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # macOS counts in bytes


def summarise_rows(rows: Iterable[Mapping[str, Any]], device: torch.device) -> dict[str, Any]:
    """Summarise measured rows; the median is what a row takes without the start, when models are loaded."""
    measured = list(rows)
    seconds = [row["seconds"] for row in measured]
    return {
        "num_rows": len(measured),
        "seconds": sum(seconds),
        "seconds_per_row": statistics.median(seconds) if seconds else None,
        "peak_memory_mb": max((row["peak_memory_mb"] for row in measured), default=None),
        **describe_machine(device),
    }


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Say on what was measured; these are facts of this run, even where rows of an earlier one are reused."""
    import torch

    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    return {"device": "cpu", "num_threads": torch.get_num_threads()}
