"""The ranker at scale: the exact InfoNCE beside MICRO's formula, and graphs, steps and memory at several sizes. Run: make bench-ranker

It writes docs/results/bench-ranker.md, and lies here because it draws the tests' large catalogue. Each part is a process of its own, whose last
line is what it measured, as JSON. Seconds are those of the clock and, as other work on the machine moves them, those of the processor. An epoch is
measured on its first steps: the graphs once, and all its steps by the mean of those.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.allocator import keep_freed_memory
from pipeline.cost import read_peak_resident
from pipeline.endings import run_command
from pipeline.files import write_bytes
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import RankerTraining
from pipeline.ranker.losses import compute_contrastive_loss
from pipeline.terminal import say
from tests.bench.arithmetic import measure_peak
from tests.bench.page import describe_cpu
from tests.configs import read_default
from tests.pipeline.ranker.large_world import build_large_data

PAGE = Path("docs/results/bench-ranker.md")
OURS, OFFICIAL = "one pass", "official"
PLAIN, KEPT = "torch's own", "as our stages keep it"  # how a process treats the memory of its tensors
LOSS_PARTS = {"plain-loss": PLAIN, "loss": KEPT}
LOSS_ITEMS, LOSS_WIDTH, LOSS_RUNS = 8_000, 64, 15
# Products of all items with all items, in units of 2 N^2 D operations. Official: within and between the views, and for each the gradients of
# both sides. One pass: as that, but for the similarities of the views among themselves the gradient is one product of half a matrix for each side.
LOSS_PRODUCTS = {OFFICIAL: 6, OURS: 5}
SIZES = (100_000, 1_000_000)
INTERACTIONS_PER_ITEM = 10
WIDTH = 64  # numbers of a feature vector
CLUSTER_ITEMS = 200  # look-alikes of an item
NUM_NEIGHBOURS = 10  # MICRO's k
STEPS = 3  # of an epoch that are measured; the first builds the learned graphs


def compute_official_loss(view_ND: Tensor, fused_ND: Tensor, *, temperature: float, batch_size: int = 4096) -> Tensor:
    """InfoNCE as the official code computes it: batches of items against all, exponentials, autograd (CRIPAC-DIG/MICRO, codes/Models.py)."""
    losses = []
    for start in range(0, len(view_ND), batch_size):
        rows = slice(start, start + batch_size)
        anchor_BD = functional.normalize(view_ND[rows])
        within_BN = torch.exp(anchor_BD @ functional.normalize(view_ND).T / temperature)
        between_BN = torch.exp(anchor_BD @ functional.normalize(fused_ND).T / temperature)
        positive_B = between_BN[:, rows].diagonal()
        losses.append(-torch.log(positive_B / (within_BN.sum(1) + between_BN.sum(1) - within_BN[:, rows].diagonal())))
    return torch.cat(losses).mean()


def measure_loss() -> dict[str, dict[str, float]]:
    """Compute the loss and its gradients by both, in turns -> by computation the median seconds, the seconds of the processor
    that its matrix products take at the fastest, and how far value and gradients are from float64.
    """
    generator = torch.Generator().manual_seed(0)
    view_ND = torch.randn(LOSS_ITEMS, LOSS_WIDTH, generator=generator)
    views = (view_ND, view_ND + torch.randn(LOSS_ITEMS, LOSS_WIDTH, generator=generator))
    computations: dict[str, Callable[..., Tensor]] = {OFFICIAL: compute_official_loss, OURS: compute_contrastive_loss}
    exact_loss, exact_gradients, *_ = differentiate(compute_official_loss, *(view.double() for view in views))
    peak = measure_peak(torch.float32)
    runs = [{name: differentiate(compute, *views) for name, compute in computations.items()} for _ in range(LOSS_RUNS)]
    peak = max(peak, measure_peak(torch.float32))
    found = {}
    for name in computations:
        loss, gradients, *_ = runs[0][name]
        clock, processor = (statistics.median(run[name][place] for run in runs) for place in (2, 3))
        value_error = abs(float(loss / exact_loss) - 1)
        gradient_error = float((gradients - exact_gradients).abs().max() / exact_gradients.abs().max())
        bound = 2 * LOSS_PRODUCTS[name] * LOSS_ITEMS**2 * LOSS_WIDTH / peak
        found[name] = {"clock": clock, "processor": processor, "bound": bound, "value": value_error, "gradients": gradient_error}
    return found


def differentiate(compute: Callable[..., Tensor], *views: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Compute a loss and its gradients -> both, seconds of the clock, seconds of the processor."""
    leaves = [view.clone().requires_grad_() for view in views]
    started = time.perf_counter(), time.process_time()
    loss = compute(*leaves, temperature=0.5)
    loss.backward()
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    return loss.detach(), torch.stack([leaf.grad for leaf in leaves]), *seconds


def measure_size(num_items: int) -> dict[str, float]:
    """Build the graphs of a catalogue and train the first steps of an epoch -> sizes, seconds of the processor and of the clock, peak memory."""
    data = build_large_data(num_items, INTERACTIONS_PER_ITEM * num_items, dim=WIDTH, num_clusters=num_items // CLUSTER_ITEMS)
    config = read_default("ranker", RankerConfig, num_neighbors=NUM_NEIGHBOURS, image_text_weight=0.0)
    marks = [read_clocks()]
    training = RankerTraining(data, config, seed=0, device=torch.device("cpu"))
    marks.append(read_clocks())
    steps, training.num_batches = training.num_batches, STEPS
    training.optimizer.register_step_post_hook(lambda *_: marks.append(read_clocks()))
    training.take_step(0)
    found = {"items": num_items, "train": len(data.train_P2), "steps": steps, "users": training.batch_size, "memory": read_peak_resident()}
    for place, clock in enumerate(("clock", "processor")):
        original, first, *others = (after[place] - before[place] for before, after in itertools.pairwise(marks))
        step = statistics.mean(others)
        times = {"original graphs": original, "learned graphs": first - step, "step": step, "epoch": first + (steps - 1) * step}
        found |= {f"{name}, {clock}": seconds for name, seconds in times.items()}
    return found


def read_clocks() -> tuple[float, float]:
    """Read the clock and the processor's seconds of this process."""
    return time.perf_counter(), time.process_time()


def run_part(part: str) -> tuple[dict[str, Any], list[float]]:
    """Run a part in a process of its own -> what it measured, and the recall of every search by FAISS."""
    command = [sys.executable, "-m", "tests.bench_ranker", part]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    say(*printed.splitlines())
    return json.loads(printed.splitlines()[-1]), [float(recall) for recall in re.findall(r"recall ([0-9.]+) of", printed)]


def build_page(losses: dict[str, dict[str, dict[str, float]]], sizes: Sequence[tuple[dict[str, float], list[float]]]) -> str:
    """Put what was measured on a page: the losses by memory and computation, and the sizes with the recall of each search."""
    found, recalls = zip(*sizes, strict=True)
    bound = losses[KEPT][OFFICIAL]["processor"] / losses[KEPT][OURS]["bound"]
    first, last = (size["items"] for size in (found[0], found[-1]))
    rows = [
        ("", [f"{size['items']:,} items" for size in found], f"growth (n log n: {last * math.log(last) / (first * math.log(first)):.0f})"),
        ("---", ["---"] * len(found), "---"),
        ("training interactions", [f"{size['train']:,}" for size in found], ""),
        ("recall", [f"{min(values):.3f}" if values else "exact" for values in recalls], ""),
        *(describe_times(name, found) for name in ("original graphs", "learned graphs", "step", "epoch")),
        ("steps of an epoch", [f"{size['steps']:,} of {size['users']:,} users" for size in found], ""),
        ("peak memory, GB", [f"{size['memory'] / 1e9:.1f}" for size in found], f"{found[-1]['memory'] / found[0]['memory']:.1f}"),
    ]
    lines = [
        "# The ranker at scale",
        "",
        f"Made by `make bench-ranker`, on {describe_cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}; never edited by hand.",
        "CPU s are seconds of the processor, which other work on the machine moves less than those of the clock.",
        "",
        "## The exact InfoNCE",
        "",
        f"Over all of {LOSS_ITEMS:,} items of {LOSS_WIDTH} numbers, forward and backward; medians of {LOSS_RUNS} runs in turns. *{OFFICIAL}* is the",
        "formula of MICRO's official code; errors are against the same formula in float64, those of the gradients as a share of the largest.",
        "Memory: torch's own, or freed blocks kept and asked for in large pages, as our stages have it. Bound: the matrix products alone, at the",
        "most operations per second that a product of large matrices was seen to reach.",
        "",
        "| | memory | CPU s | s | bound, CPU s | error of the value | error of the gradients |",
        "|---|---|---|---|---|---|---|",
        *(describe_loss(name, memory, row) for memory, loss in losses.items() for name, row in loss.items()),
        "",
        f"As each is run, the official formula with torch's own memory, the {OURS} is {compare_losses(losses, PLAIN)}.",
        f"With the same memory for both it is {compare_losses(losses, KEPT)}.",
        f"Something that only computed the {OURS}'s products would be {bound:.1f} times faster there by the processor.",
        "",
        "## A large catalogue",
        "",
        f"Synthetic: clusters of {CLUSTER_ITEMS} look-alikes, features of {WIDTH} numbers, k = {NUM_NEIGHBOURS}, {INTERACTIONS_PER_ITEM}",
        f"interactions per item. A step is the mean of the first {STEPS} of an epoch without the learned graphs, which only the first one",
        "builds; an epoch is reckoned from them. Recall is that of FAISS's candidates, the least of all graphs.",
        "",
        *(f"| {' | '.join([name, *cells, growth])} |" for name, cells, growth in rows),
        "",
        "Every step propagates over the whole graph, so that `ranker.max_steps` lets the batch grow in a large catalogue. FAISS compares an item",
        "with the centres of about the root of N cells, so that a search over all items takes a little more than N log N.",
        "",
    ]
    return "\n".join(lines)


def describe_loss(name: str, memory: str, row: dict[str, float]) -> str:
    """Return a line of the table of losses."""
    times = " | ".join(f"{row[clock]:.2f}" for clock in ("processor", "clock", "bound"))
    return f"| {name} | {memory} | {times} | {row['value']:.0e} | {row['gradients']:.0e} |"


def compare_losses(losses: dict[str, dict[str, dict[str, float]]], memory: str) -> str:
    """Say how much faster ours is, as stages run it, than the official formula with that memory."""
    processor, clock = (losses[memory][OFFICIAL][name] / losses[KEPT][OURS][name] for name in ("processor", "clock"))
    return f"{processor:.1f} times faster by the processor and {clock:.1f} times by the clock"


def describe_times(name: str, found: Sequence[dict[str, float]]) -> tuple[str, list[str], str]:
    """Return a line of CPU seconds, in brackets those of the clock, and the growth of the first."""
    cells = [f"{size[f'{name}, processor']:,.1f} ({size[f'{name}, clock']:,.1f})" for size in found]
    growth = found[-1][f"{name}, processor"] / found[0][f"{name}, processor"]
    return f"{name}, CPU s (s)", cells, f"{growth:.1f}"


def main(arguments: Sequence[str]) -> None:
    """Measure one part and print it as JSON, or all parts and write the page."""
    if arguments:
        if LOSS_PARTS.get(arguments[0]) != PLAIN:
            keep_freed_memory()  # as every stage does
        print(json.dumps(measure_loss() if arguments[0] in LOSS_PARTS else measure_size(int(arguments[0]))))
        return
    losses = {memory: run_part(part)[0] for part, memory in LOSS_PARTS.items()}
    write_bytes(PAGE, build_page(losses, [run_part(str(size)) for size in SIZES]).encode())
    say(f"{PAGE} is written.")


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
