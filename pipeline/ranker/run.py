"""From the ranker's data to its files: train through the ledger, save, and measure what was saved."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.artifacts import write_csv, write_json
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import CURVE_COLUMNS, identify_training, measure_ranker, train_ranker
from pipeline.ranker.interactions import RankerData
from pipeline.ranker.scoring import load_ranker, save_ranker
from pipeline.rows import Summary
from pipeline.work import open_work


def run_ranker(
    data: RankerData, config: RankerConfig, out: Path, *, stage: str, image_feature: str, seed: int, device: torch.device, checkpoint_every: int
) -> str:
    """Train (or go on), write ranker.safetensors, metrics.json and curves.csv, and return the outcome in one line."""
    fingerprint = identify_training(data, config, seed=seed)
    with open_work(stage, code=[train_ranker], inputs=fingerprint):
        trained = train_ranker(data, config, seed=seed, device=device, fingerprint=fingerprint, checkpoint_every=checkpoint_every, stage=stage)
    path = out / "ranker.safetensors"
    save_ranker(path, trained.model, data.features, user_ids=data.user_ids, item_ids=data.item_ids, image_feature=image_feature)
    metrics = measure_ranker(trained, load_ranker(path, device=device), data, seed=seed, ndcg=config.ndcg)
    write_json(out / "metrics.json", metrics)
    write_csv(out / "curves.csv", trained.training.curves, CURVE_COLUMNS)
    return f"best epoch {metrics['best_epoch']} of {metrics['epochs']}, {metrics.get('validation', 'no validation items')}"


def summarise_run(data: RankerData, *, seconds: float) -> Summary:
    """Count interactions and references: those that were used, and those whose item has no embedding."""
    num_pairs = len(data.train_P2) + len(data.validation_P2)
    return Summary(num_pairs + data.num_left_out, num_pairs, 0, data.num_left_out, seconds)
