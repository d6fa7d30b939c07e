"""From the evaluation ranker's data to its files: train, save, and measure how well it ranks what it has not seen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.json_files import write_json
from pipeline.metrics.intervals import compute_mean_interval
from pipeline.metrics.protocol import CUTOFF
from pipeline.metrics.ranking import compute_ndcg, compute_recall
from pipeline.ranker_check.config import CheckConfig
from pipeline.ranker_check.fit import CURVE_COLUMNS, train_check
from pipeline.ranker_check.material import CheckData
from pipeline.ranker_check.scoring import save_check
from pipeline.spreadsheets import write_csv


def run_check(data: CheckData, config: CheckConfig, out: Path, *, device: torch.device, checkpoint_every: int) -> str:
    """Train (or go on), write ranker.safetensors, metrics.json and curves.csv, and return the outcome in one line."""
    trained, training = train_check(data, config, device=device, checkpoint_every=checkpoint_every)
    save_check(out / "ranker.safetensors", trained.tower, data, config=config)
    metrics: dict[str, Any] = {"best_epoch": trained.best_epoch, "epochs": trained.state.step, "users": len(data.user_ids)}
    metrics |= {"items": len(data.catalogue.item_ids), "interactions": len(data.train_P2), "left_out": data.num_left_out}
    if len(data.held_out_P2):
        metrics["held_out"] = measure_ranks(training.rank_held_out()[0], seed=config.seed)
    write_json(out / "metrics.json", metrics)
    write_csv(out / "curves.csv", [{"epoch": row["step"], **row} for row in trained.state.curves], CURVE_COLUMNS)
    return f"best epoch {metrics['best_epoch']} of {metrics['epochs']}, {metrics.get('held_out', 'no held-out items')}"


def measure_ranks(rank_U: Tensor, *, seed: int) -> dict[str, Any]:
    """Measure R@10 and N@10 of one held-out item a user, with 95% intervals over users, and the median rank."""
    columns = {f"recall_at_{CUTOFF}": compute_recall(rank_U[:, None], k=CUTOFF), f"ndcg_at_{CUTOFF}": compute_ndcg(rank_U[:, None], k=CUTOFF)}
    figures: dict[str, Any] = {"n": len(rank_U), "median_rank": float(rank_U.double().quantile(0.5))}
    for name, value_U in columns.items():
        interval = asdict(compute_mean_interval(dict(enumerate(value_U.tolist())), seed=seed))
        figures |= {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
    return figures
