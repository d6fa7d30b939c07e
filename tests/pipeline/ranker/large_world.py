"""Train the ranker for a few steps on a synthetic catalogue of any size, and print what it took.

`python -m tests.pipeline.ranker.large_world --items 100000 --interactions 1000000`: one JSON line with the peak memory of the process.
A similarity matrix of 100,000 items alone would be 40 GB.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import torch
import typer

from pipeline.cost import read_peak_resident
from pipeline.ranker.fit import RankerTraining
from pipeline.ranker.graph import normalise_rows
from pipeline.ranker.interactions import RankerData
from pipeline.ranker.scoring import build_scorer
from tests.configs import RANKER

HISTORY = 20  # interactions per user
NUM_CLUSTERS = 50
NUM_SCORED = 500  # images that are put in the place of an item's
CPU = torch.device("cpu")


def build_large_data(num_items: int, num_interactions: int, *, dim: int = 32, num_clusters: int = NUM_CLUSTERS) -> RankerData:
    """Draw clustered items and users who each saw HISTORY of them; every interaction is counted once."""
    generator = torch.Generator().manual_seed(0)
    num_users = max(1, num_interactions // HISTORY)
    cluster_N = torch.randint(num_clusters, (num_items,), generator=generator)
    features = {}
    for name in ("image", "text"):
        centers = torch.randn(num_clusters, dim, generator=generator) + 0.3
        features[name] = normalise_rows(centers[cluster_N] + 0.5 * torch.randn(num_items, dim, generator=generator))
    step_H = torch.randperm(num_items // HISTORY, generator=generator)[0] + 1
    start_U = torch.randint(num_items, (num_users,), generator=generator)
    item_UH = (start_U[:, None] + step_H * torch.arange(HISTORY)) % num_items  # HISTORY different items
    pair_P2 = torch.stack([torch.arange(num_users).repeat_interleave(HISTORY), item_UH.sort(dim=1).values.flatten()], dim=1)
    return RankerData(
        user_ids=tuple(f"u{index:07d}" for index in range(num_users)),
        item_ids=tuple(f"i{index:07d}" for index in range(num_items)),
        features=features,
        train_P2=pair_P2,
        validation_P2=pair_P2[:0],
        cases=(),
        num_left_out=0,
    )


def run(items: int, interactions: int, *, steps: int = 3, dim: int = 32) -> dict[str, Any]:
    """Train an epoch of `steps` steps with MICRO's settings and features `dim` wide, load the weights into a scorer, and score substituted images."""
    started = time.monotonic()
    data = build_large_data(items, interactions, dim=dim)
    config = replace(RANKER, embedding_dim=64, num_neighbors=10, batch_size=1024, learning_rate=5e-4, contrastive_anchors=128)
    training = RankerTraining(data, config, seed=0, device=CPU)
    training.num_batches = steps
    losses = training.take_step(0)
    ids = {"user_ids": data.user_ids, "item_ids": data.item_ids, "image_feature": "clip_image"}
    scorer = build_scorer(training.name_tensors(), data.features, data.train_P2, config=config, **ids)
    users, chosen = data.user_ids[:NUM_SCORED], data.item_ids[:NUM_SCORED]
    scores = scorer.score_substituted(users, chosen, data.features["image"][: len(users)].flip(0)[: len(chosen)])
    ranks = scorer.rank_substituted(users, chosen, data.features["image"][: len(users)], exclude=[[]] * len(users))
    return {
        "items": items,
        "interactions": len(data.train_P2),
        "users": len(data.user_ids),
        "loss": losses["loss"],
        "scored": int(torch.isfinite(scores).sum()),
        "worst_rank": int(ranks.max()),
        "peak_bytes": read_peak_resident(),
        "seconds": round(time.monotonic() - started, 1),
    }


def main(items: int = 100_000, interactions: int = 1_000_000, steps: int = 3, dim: int = 32) -> None:
    """Print one JSON line."""
    print(json.dumps(run(items, interactions, steps=steps, dim=dim)))


if __name__ == "__main__":
    typer.run(main)
