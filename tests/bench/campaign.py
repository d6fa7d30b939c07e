"""All repetitions of all contests on this machine's CPU, with what arithmetic bounds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.bench.arithmetic import count_flops
from tests.bench.lots import Lot, make_lot
from tests.bench.timing import Contest, Timings, repeat

COUNTED_ROWS = 32  # of the loops


@dataclass
class Measured:
    """What was measured: timings and operations a row (ours, the loop's) by contest."""

    rows: int
    repetitions: int
    timings: dict[str, Timings] = field(default_factory=dict)
    flops: dict[str, tuple[float, float]] = field(default_factory=dict)


def run_campaign(contests: Sequence[Contest], items: Sequence[dict[str, Any]], root: Path, *, rows: int, repetitions: int) -> Measured:
    """Warm up on a lot of its own, which loads the models and counts operations, then take repetitions, each on its own lot.

    The ledgers of a repetition lie in a folder of its own, so that no row of another is found there.
    """
    lots = [make_lot(root / f"lot-{index}", list(items[index * rows : (index + 1) * rows])) for index in range(repetitions + 1)]
    measured = Measured(rows, repetitions, {contest.name: Timings() for contest in contests})
    work_root = os.environ.get("DVC_ROOT")
    try:
        warm_up(contests, lots[0], root / "warm-up", measured)
        for index, lot in enumerate(lots[1:]):
            for contest in contests:
                use_work_root(root / f"repetition-{index}" / contest.name)
                repeat(contest, lot, measured.timings[contest.name], ours_first=index % 2 == 0)
            print(f"repetition {index + 1} of {repetitions} is done", flush=True)
    finally:
        if work_root is None:
            os.environ.pop("DVC_ROOT", None)
        else:
            os.environ["DVC_ROOT"] = work_root
    return measured


def warm_up(contests: Sequence[Contest], lot: Lot, root: Path, measured: Measured) -> None:
    """Do everything once, the loops on some rows: counting makes every operation slow."""
    for contest in contests:
        use_work_root(root / contest.name)
        _, ours = count_flops(contest.ours, lot)
        _, loop = count_flops(contest.loop, replace(lot, rows=lot.rows[:COUNTED_ROWS]))
        measured.flops[contest.name] = ours, loop


def use_work_root(folder: Path) -> None:
    """Let ledgers lie below a new folder."""
    folder.mkdir(parents=True)
    os.environ["DVC_ROOT"] = str(folder)
