"""What a sample of InfoNCE's anchors costs in R@20 beside all items, on a finished run's data, several seeds. Run: make bench-anchors

Each seed trains the ranker twice, with `ranker.contrastive_anchors` and with all items, and ranks every user's validation items. The difference is
paired by user and seed. It writes docs/results/bench-anchors.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.artifacts import read_table
from pipeline.endings import run_command
from pipeline.files import write_bytes
from pipeline.metrics.intervals import compute_nested_interval
from pipeline.metrics.ranking import compute_recall
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import rank_validation, read_data, train_ranker
from pipeline.ranker.interactions import RankerData
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS
from pipeline.terminal import say
from tests.configs import read_default

PAGE = Path("docs/results/bench-anchors.md")
NUM_SEEDS = 6
K = 20


def main(data_dir: Path) -> None:
    """Train with a sample and with all items, and write the page."""
    config = read_default("ranker", RankerConfig)
    tables = [(data_dir / "dataset" / "interactions.parquet", INTERACTIONS), (data_dir / "dataset" / "cases.parquet", CASES)]
    tables.append((data_dir / "embedding" / "embeddings.parquet", EMBEDDINGS))
    data = read_data(*(read_table(path, schema) for path, schema in tables), config=config)
    rows, recalls = [], []
    for anchors in (config.contrastive_anchors, 0):
        by_seed_user, started = {}, time.process_time()
        for seed in range(NUM_SEEDS):
            changed = replace(config, contrastive_anchors=anchors)
            trained = train_ranker(data, changed, seed=seed, device=torch.device("cpu"), checkpoint_every=10**9)
            recall_V = compute_recall(rank_validation(trained.model, data), k=K)
            by_seed_user |= {(seed, user): value for user, value in enumerate(recall_V.tolist())}
        recalls.append(by_seed_user)
        rows.append(write_row(f"{anchors or 'all'}", by_seed_user, f"{(time.process_time() - started) / NUM_SEEDS:.0f}"))
        say(rows[-1])
    sampled, exact = recalls
    rows.append(write_row("sampled - all, paired", {key: sampled[key] - exact[key] for key in sampled}, ""))
    write_bytes(PAGE, build_page(rows, data).encode())
    say(rows[-1], f"{PAGE} is written.")


def write_row(name: str, by_seed_user: dict[tuple[int, int], float], seconds: str) -> str:
    """Write a line of the table: the mean over users and seeds with its interval, and the CPU seconds of a training."""
    interval = compute_nested_interval(by_seed_user, seed=0)
    return f"| {name} | {interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}] | {seconds} |"


def build_page(rows: Sequence[str], data: RankerData) -> str:
    """Put the table on a page."""
    lines = [
        "# What a sample of InfoNCE's anchors costs",
        "",
        f"Made by `make bench-anchors` from the tables of a finished run: {len(data.item_ids):,} items, {len(data.user_ids):,} users,",
        f"{len(data.train_P2):,} training interactions; {NUM_SEEDS} training seeds, 95% intervals over seeds and users. R@{K} is of every user's",
        "validation items. Never edited by hand.",
        "",
        f"| anchors | R@{K} [95%] | CPU s of a training |",
        "|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(lambda: main(Path(*sys.argv[1:2] or ["data"])))
