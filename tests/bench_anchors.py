"""What a sample of InfoNCE's anchors costs in R@20 beside all items, on the finished run's data, several seeds. Run: python -m tests.bench_anchors

Each seed trains the ranker twice, with `ranker.contrastive_anchors` and with all items, and ranks every user's validation items. The difference is
paired by user and seed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.artifacts import read_table
from pipeline.metrics.intervals import compute_nested_interval
from pipeline.metrics.ranking import compute_recall
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import rank_validation, read_data, train_ranker
from pipeline.schemas import CASES, EMBEDDINGS, INTERACTIONS
from tests.configs import read_default

NUM_SEEDS = 6
K = 20


def main(data_dir: Path) -> None:
    """Print R@20 of both and their difference, with 95 % intervals over seeds and users, and the processor's time of the trainings."""
    config = read_default("ranker", RankerConfig)
    tables = [(data_dir / "dataset" / "interactions.parquet", INTERACTIONS), (data_dir / "dataset" / "cases.parquet", CASES)]
    tables.append((data_dir / "embedding" / "embeddings.parquet", EMBEDDINGS))
    data = read_data(*(read_table(path, schema) for path, schema in tables), config=config)
    recalls: dict[int, dict[tuple[int, int], float]] = {}
    for anchors in (config.contrastive_anchors, 0):
        by_seed_user, started = {}, time.process_time()
        for seed in range(NUM_SEEDS):
            changed = replace(config, contrastive_anchors=anchors)
            trained = train_ranker(data, changed, seed=seed, device=torch.device("cpu"), checkpoint_every=10**9)
            recall_V = compute_recall(rank_validation(trained.model, data), k=K)
            by_seed_user |= {(seed, user): value for user, value in enumerate(recall_V.tolist())}
        recalls[anchors] = by_seed_user
        seconds = (time.process_time() - started) / NUM_SEEDS
        print(f"{anchors or 'all'} anchors: {describe(by_seed_user)}, {seconds:.0f} s of the processor a training", flush=True)
    sampled, exact = recalls.values()
    print(f"sampled - all: {describe({key: sampled[key] - exact[key] for key in sampled})}")


def describe(by_seed_user: dict[tuple[int, int], float]) -> str:
    """Write a mean over users and seeds with its interval."""
    interval = compute_nested_interval(by_seed_user, seed=0)
    return f"R@{K} {interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data"]))
