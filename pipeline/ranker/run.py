"""From the ranker's data to its files: train, save, and measure what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.json_files import write_json
from pipeline.metrics.protocol import NUM_NEGATIVES, Ideal
from pipeline.ranker.config import RankerConfig
from pipeline.ranker.fit import CURVE_COLUMNS, Trained, measure_ranks, rank_validation, train_ranker
from pipeline.ranker.interactions import RankerData
from pipeline.ranker.scoring import RankerScorer, load_ranker, save_ranker
from pipeline.rows import Summary
from pipeline.spreadsheets import write_csv


def run_ranker(
    data: RankerData, config: RankerConfig, out: Path, *, stage: str, image_feature: str, seed: int, device: torch.device, checkpoint_every: int
) -> str:
    """Train (or go on), write ranker.safetensors, metrics.json and curves.csv, and return the outcome in one line."""
    trained = train_ranker(data, config, seed=seed, device=device, checkpoint_every=checkpoint_every, stage=stage)
    path = out / "ranker.safetensors"
    save_ranker(path, trained.model, data.features, user_ids=data.user_ids, item_ids=data.item_ids, image_feature=image_feature)
    metrics = measure_ranker(trained, load_ranker(path, device=device), data, seed=seed, ndcg=config.ndcg)
    write_json(out / "metrics.json", metrics)
    write_csv(out / "curves.csv", [{"epoch": row["step"], **row} for row in trained.state.curves], CURVE_COLUMNS)
    return f"best epoch {metrics['best_epoch']} of {metrics['epochs']}, {metrics.get('validation', 'no validation items')}"


def measure_ranker(trained: Trained, scorer: RankerScorer, data: RankerData, *, seed: int, ndcg: Ideal = "standard") -> dict[str, Any]:
    """Measure R@10 and N@10 of the validation items and of the references with their own images (ORI of Table 4).

    References are ranked in the full catalogue and (`reference_sampled`) among NUM_NEGATIVES drawn candidates.
    """
    metrics: dict[str, Any] = {"best_epoch": trained.best_epoch, "epochs": trained.state.step}
    metrics |= {"users": len(data.user_ids), "items": len(data.item_ids), "interactions": len(data.train_P2), "left_out": data.num_left_out}
    if len(data.validation_P2):
        rank_VP = rank_validation(trained.model, data)
        metrics["validation"] = {**measure_ranks(rank_VP, ndcg), "n": len(rank_VP)}
    if data.cases:
        users, references = [case.user_id for case in data.cases], [case.reference_id for case in data.cases]
        histories, keys = [case.history for case in data.cases], [case.case_id for case in data.cases]
        negatives = scorer.draw_negatives(keys, references, exclude=histories, count=NUM_NEGATIVES, seed=seed)
        full_B = scorer.rank_original(users, references, exclude=histories)
        sampled_B = scorer.rank_original(users, references, exclude=histories, negatives=negatives)
        metrics["reference"] = {**measure_ranks(full_B[:, None], ndcg), "median_rank": float(full_B.double().quantile(0.5)), "n": len(full_B)}
        metrics["reference_sampled"] = {**measure_ranks(sampled_B[:, None], ndcg), "negatives": NUM_NEGATIVES, "n": len(sampled_B)}
    return metrics


def summarise_run(data: RankerData, *, seconds: float) -> Summary:
    """Count interactions and references: those that were used, and those whose item has no embedding."""
    num_pairs = len(data.train_P2) + len(data.validation_P2)
    return Summary(num_pairs + data.num_left_out, num_pairs, 0, data.num_left_out, seconds)
