"""What was measured, as a page for people."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from pipeline.metrics.intervals import MIN_USERS
from tests.bench.campaign import COUNTED_ROWS, Measured
from tests.bench.contests import EXTRA
from tests.bench.timing import CLOCKS, NO_INTERVAL, compute_ratio, format_ratio, weigh

HEAD = "| stage | same | loop, rows/s | ours, rows/s | ratio, wall time | ratio, CPU time | loop, GFLOP a row | ours, GFLOP a row | ours, of peak |"


def write_page(measured: Measured, weights: dict[str, int], peaks: dict[str, float], *, command: str) -> str:
    """Write the page; `peaks` are the measured operations a second by contest."""
    whole = {clock: compute_ratio(*weigh(pick_stages(measured, weights), weights, clock, rows=measured.rows)) for clock in CLOCKS}
    counts = ", ".join(f"{count:,} in {name}" for name, count in weights.items())
    lines = [
        "# The pipeline beside per-item loops",
        "",
        f"Made by `{command}`, on {describe_cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}; never edited by hand.",
        "",
        "Each stage's own function, with its ledger and its default batch size, against a loop that takes one row after the other with the public",
        "calls of transformers, open_clip, timm and diffusers (`tests/bench/loops.py`): same weights, number format, decoding limits, sampler, steps",
        f"and noise. {measured.repetitions} repetitions of {measured.rows} rows each, no row twice, both ways in turns in one process, the models",
        "loaded before.",
        "A ratio is how many times as long the loop takes: the geometric mean over the repetitions [95% bootstrap interval].",
        *([NO_INTERVAL] if measured.repetitions < MIN_USERS else []),
        "",
        HEAD,
        "|" + "---|" * HEAD.count(" | ") + "---|",
        *(write_row(name, measured, peaks[name]) for name in measured.timings),
        "",
        f"**All stages together, weighted by the rows of a default run** ({counts}): ratio {format_ratio(whole['wall'])} of wall time,",
        f"{format_ratio(whole['cpu'])} of CPU time. The goal is 4. Trainings, the ranker and the evaluation have no per-item loop and are not in it;",
        f"nor is *{EXTRA}*, a loop that few would write: it keeps the keys and values of the examples that every prompt begins with.",
        "",
        "*Same*: the share of rows with the same caption or keywords, with vectors of a cosine above 0.999, or with pictures that differ by less",
        "than one level of 255 in the mean. *Of peak*: operations of matrix products, convolutions and attention (torch's FlopCounterMode, on the",
        f"warm-up; of the loops on {COUNTED_ROWS} rows of it) over the processor's seconds, beside the fastest product of square matrices that",
        "it was seen to compute in the same number format. Where that share is high a stage is bound by arithmetic, and only fewer operations",
        "could make it faster.",
        "",
    ]
    return "\n".join(line.removesuffix(" ") for line in lines)


def pick_stages(measured: Measured, weights: dict[str, int]) -> dict:
    """Return the timings of what a default run does."""
    return {name: measured.timings[name] for name in weights}


def write_row(name: str, measured: Measured, peak: float) -> str:
    """Write a contest's line."""
    timings, (ours_flops, loop_flops) = measured.timings[name], measured.flops[name]
    total_rows = measured.rows * measured.repetitions
    rates = {way: total_rows / sum(getattr(timings, way)["wall"]) for way in ("loop", "ours")}
    ratios = [format_ratio(compute_ratio(timings.loop[clock], timings.ours[clock])) for clock in ("wall", "cpu")]
    cells = [
        name,
        f"{timings.num_same / timings.num_rows:.1%}",
        *(f"{rates[way]:.2f}" for way in ("loop", "ours")),
        *ratios,
        *(f"{flops / 1e9:.2f}" for flops in (loop_flops, ours_flops)),
        f"{ours_flops * total_rows / sum(timings.ours['cpu']) / peak:.0%} of {peak / 1e9:.0f} GFLOP/s",
    ]
    return "| " + " | ".join(cells) + " |"


def describe_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name the kind of processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE) if cpuinfo.exists() else None
    return found.group(1).strip() if found else platform.machine()
