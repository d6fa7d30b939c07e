"""The bound that arithmetic sets: floating point operations of the work done, beside the most that this machine was seen to do in a second."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.lots import Lot
from tests.bench.timing import Way

PEAK_SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices
TRIES = 10


def count_flops(way: Way, lot: Lot) -> tuple[dict[str, Any], float]:
    """Do it once, slower, and count what matrix products, convolutions and attention compute; return the outcomes and the operations a row."""
    with FlopCounterMode(display=False) as counter:
        outcomes = way(lot)
    return outcomes, counter.get_total_flops() / len(lot.rows)


def measure_peak(device: torch.device, dtype: torch.dtype, *, side: int | None = None) -> float:
    """Return the operations a second of the fastest of some products of square matrices."""
    side = side or PEAK_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(TRIES):
        synchronise(device)
        started = time.perf_counter()
        left @ right
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def synchronise(device: torch.device) -> None:
    """Wait for what was asked of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
