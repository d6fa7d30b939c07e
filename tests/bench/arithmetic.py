"""The bound that arithmetic sets: floating point operations of the work done, beside the most that this processor was seen to do.

Both by seconds of the processor, summed over its threads, which do not depend on what else the machine does meanwhile.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.lots import Lot
from tests.bench.timing import Way

PEAK_SIDE = 1024  # of the square matrices
TRIES = 20


def count_flops(way: Way, lot: Lot) -> tuple[dict[str, Any], float]:
    """Do it once, slower, and count what matrix products, convolutions and attention compute; return the outcomes and the operations a row."""
    with FlopCounterMode(display=False) as counter:
        outcomes = way(lot)
    return outcomes, counter.get_total_flops() / len(lot.rows)


def measure_peak(dtype: torch.dtype, *, side: int = PEAK_SIDE, tries: int = TRIES) -> float:
    """Return the operations a second of the processor of the fastest of some products of square matrices."""
    left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(tries):
        started = time.process_time()
        left @ right
        best = min(best, time.process_time() - started)
    return 2 * side**3 / best
