"""Candidates for the neighbours in a large catalogue, by a FAISS index instead of all N x N similarities.

An inverted file: k-means cells, of which every item looks into the nearest few. How many is measured and not set: they double until a sample of
items finds RECALL of its exact neighbours. FAISS only names candidates; `graph.py` compares them in float64 as it compares all items of a small
catalogue. Cells are few beside the items and their training sees a sample, so that the time grows little faster than N.

With the same number of threads the same candidates are found; another number, or a GPU, may round a cell's centre differently.

Shapes: N items, F features, S sampled items, C candidates, K neighbours.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.terminal import say

RECALL = 0.95  # share of the exact neighbours that is enough
NUM_SAMPLED = 256  # items whose exact neighbours are looked up
CELLS_PER_ROOT = 4  # cells = this times the root of N
TRAINING_ITEMS = 64  # per cell, at most, that place the cells' centres
TRAINING_ROUNDS = 6  # of k-means: better centres find no more neighbours, and more probes make up for worse
MIN_PROBES = 1  # cells that are looked into at first
BATCH_ITEMS = 1 << 16  # items whose candidates are held in FAISS's own form at once


def search_candidates(unit_NF: Tensor, *, num_neighbors: int, num_candidates: int) -> Tensor:
    """Find rows most similar to each unit row -> (N, C) indices on the same device, -1 where a row's cells hold too few; says the recall."""
    import faiss

    started = time.monotonic()
    item_NF = np.ascontiguousarray(unit_NF.detach().cpu().numpy(), dtype=np.float32)
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = build_index(item_NF, device=unit_NF.device)
    sample_S = np.linspace(0, len(item_NF) - 1, min(NUM_SAMPLED, len(item_NF))).astype(np.int64)
    _, exact_SK = faiss.knn(item_NF[sample_S], item_NF, num_neighbors, metric=faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(MIN_PROBES, index.nlist)
    while (recall := measure_recall(index.search(item_NF[sample_S], num_candidates)[1], exact_SK)) < RECALL and index.nprobe < index.nlist:
        index.nprobe = min(2 * index.nprobe, index.nlist)
    candidate_NC = torch.empty((len(item_NF), num_candidates), dtype=torch.int64)
    for start in range(0, len(item_NF), BATCH_ITEMS):
        rows = slice(start, start + BATCH_ITEMS)
        candidate_NC[rows] = torch.from_numpy(index.search(item_NF[rows], num_candidates)[1])
    say(
        f"ranker: neighbours of {len(item_NF):,} items by FAISS, {index.nprobe} of {index.nlist:,} cells each: "
        f"recall {recall:.3f} of {len(sample_S)} items' exact neighbours, {time.monotonic() - started:.0f} s"
    )
    return candidate_NC.to(unit_NF.device)


def build_index(item_NF: np.ndarray, *, device: torch.device) -> Any:
    """Build the inverted file over the items, on the GPU if `device` is one."""
    import faiss

    width, num_cells = item_NF.shape[1], max(1, int(CELLS_PER_ROOT * math.sqrt(len(item_NF))))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, num_cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid, index.cp.niter = TRAINING_ITEMS, 1, TRAINING_ROUNDS
    if device.type == "cuda":
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    index.train(item_NF)
    index.add(item_NF)
    return index


def measure_recall(found_SC: np.ndarray, exact_SK: np.ndarray) -> float:
    """Compute the share of the exact neighbours that are among the candidates."""
    return float(np.mean([np.isin(exact_K, found_C).mean() for exact_K, found_C in zip(exact_SK, found_SC, strict=True)]))
