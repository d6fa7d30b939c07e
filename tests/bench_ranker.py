"""The ranker at scale: the exact InfoNCE beside MICRO's formula, and graphs, steps and memory at several sizes. Run: make bench-ranker

It lies here because it draws the tests' large catalogue. Each size is a process of its own. Seconds are those of the clock and, as other work on the
machine moves them, those of the processor. An epoch is measured on its first steps: the graphs once, and all its steps by the mean of those.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.cost import read_peak_resident
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import RankerTraining
from pipeline.ranker.losses import compute_contrastive_loss
from tests.configs import read_default
from tests.pipeline.ranker.large_world import build_large_data

LOSS_ITEMS, LOSS_RUNS = 8_000, 5
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


def measure_loss() -> None:
    """Compute the loss and its gradients by both, in turns, and print the times, their ratio and how far each is from float64."""
    generator = torch.Generator().manual_seed(0)
    view_ND = torch.randn(LOSS_ITEMS, 64, generator=generator)
    views = (view_ND, view_ND + torch.randn(LOSS_ITEMS, 64, generator=generator))
    ours, official = "one pass", "official"
    computations: dict[str, Callable[..., Tensor]] = {official: compute_official_loss, ours: compute_contrastive_loss}
    exact_loss, exact_gradients, *_ = differentiate(compute_official_loss, *(view.double() for view in views))
    print(f"InfoNCE over all of {LOSS_ITEMS:,} items, forward and backward, {torch.get_num_threads()} threads, medians of {LOSS_RUNS} runs in turns")
    runs = [{name: differentiate(compute, *views) for name, compute in computations.items()} for _ in range(LOSS_RUNS)]
    seconds = {name: [statistics.median(run[name][place] for run in runs) for place in (2, 3)] for name in computations}
    for name in computations:
        loss, gradients, *_ = runs[0][name]
        errors = (abs(float(loss / exact_loss) - 1), float((gradients - exact_gradients).abs().max() / exact_gradients.abs().max()))
        clock, processor = seconds[name]
        print(
            f"  {name:<10}{clock:>8.2f} s, processor {processor:.2f} s; from float64: value {errors[0]:.0e}, gradients {errors[1]:.0e} of the largest"
        )
    ratios = [first / second for first, second in zip(seconds[official], seconds[ours], strict=True)]
    print(f"  the one pass is {ratios[0]:.1f} times faster by the clock, {ratios[1]:.1f} times by the processor", flush=True)


def differentiate(compute: Callable[..., Tensor], *views: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Compute a loss and its gradients -> both, seconds of the clock, seconds of the processor."""
    leaves = [view.clone().requires_grad_() for view in views]
    started = time.perf_counter(), time.process_time()
    loss = compute(*leaves, temperature=0.5)
    loss.backward()
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    return loss.detach(), torch.stack([leaf.grad for leaf in leaves]), *seconds


def measure_size(num_items: int) -> None:
    """Build the graphs of a catalogue, train the first steps of an epoch and print two lines; FAISS's recall is printed by the ranker itself."""
    data = build_large_data(num_items, INTERACTIONS_PER_ITEM * num_items, dim=WIDTH, num_clusters=num_items // CLUSTER_ITEMS)
    config = read_default("ranker", RankerConfig, num_neighbors=NUM_NEIGHBOURS, image_text_weight=0.0)
    marks = [read_clocks()]
    training = RankerTraining(data, config, seed=0, device=torch.device("cpu"))
    marks.append(read_clocks())
    steps, training.num_batches = training.num_batches, STEPS
    training.optimizer.register_step_post_hook(lambda *_: marks.append(read_clocks()))
    training.take_step(0)
    print(f"{num_items:,} items, {len(data.train_P2):,} interactions, peak memory {read_peak_resident() / 1e9:.1f} GB", flush=True)
    for place, clock in enumerate(("clock", "processor")):
        original, first, *others = (after[place] - before[place] for before, after in itertools.pairwise(marks))
        step = statistics.mean(others)
        print(
            f"  {clock:<10} original graphs {original:,.0f} s, learned graphs {first - step:,.0f} s, a step {step:.2f} s; "
            f"an epoch: {steps} steps of {training.batch_size:,} users, {(first + (steps - 1) * step) / 60:,.1f} min (from {STEPS} steps)",
            flush=True,
        )


def read_clocks() -> tuple[float, float]:
    """Read the clock and the processor's seconds of this process."""
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    if sys.argv[1:] == ["loss"]:
        measure_loss()
    elif sys.argv[1:]:
        measure_size(int(sys.argv[1]))
    else:
        for part in ("loss", *map(str, SIZES)):
            subprocess.run([sys.executable, "-m", "tests.bench_ranker", part], check=True)
