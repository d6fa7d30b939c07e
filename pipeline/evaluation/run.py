"""Run the evaluation: load the models, score every task through the ledger, and build the table of scores."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.artifacts import build_table, get_matrix, read_table
from pipeline.config import config_dataclass
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.features import ItemStore
from pipeline.evaluation.inputs import Catalogue, Generated, Task, identify_task
from pipeline.evaluation.scoring import EvaluationModels, SecondRanker, score_tasks
from pipeline.evaluation.whereabouts import DISTANCES, STYLES, choose_pairs
from pipeline.ledger import open_ledger
from pipeline.metrics.definitions import Metric, define_metrics
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.folders import compute_model_revision
from pipeline.models.judge import load_judge
from pipeline.models.perceptual import load_perceptual
from pipeline.params import build_config, read_section
from pipeline.ranker.scoring import load_ranker
from pipeline.ranker_check.scoring import load_check
from pipeline.rows import Key, Row, Summary, map_rows
from pipeline.schemas import GENERATED, SCORES
from pipeline.table_images import ImageColumn

STAGE = "evaluation"
ROLES = ("metric_clip", "clip", "visual", "check_visual", "perceptual", "judge")
WITHOUT_EFFECT = ("num_resamples", "level", "main_method", "max_rejected_fraction", "split")  # on a case's scores


@config_dataclass
class ModelNames:
    """What evaluation needs of the params' `models` block; without a judge of the data set nobody names styles."""

    profile: str  # label of every result
    dtype: str
    metric_clip: str
    clip: str
    visual: str
    check_visual: str
    perceptual: str
    judge: str | None

    def list_revisions(self) -> dict[str, str]:
        """Return the exact weights behind every reference."""
        return {role: compute_model_revision(name) for role in ROLES if (name := getattr(self, role))}


def read_names(params: Path) -> ModelNames:
    """Read the `models` block; ValueError names a missing or mistyped entry."""
    block = {field.name: read_section(params, f"models.{field.name}") for field in dataclasses.fields(ModelNames)}
    judges = block["judge"]
    if judges is not None and not isinstance(judges, dict):
        raise ValueError(
            f"{params}: models.judge is {judges!r}, but it must be null or name a judge by data set, e.g. {{stylemoji: embedded/judge}}."
        )
    block["judge"] = judges.get(read_section(params, "dataset.name")) if judges else None
    return build_config(block, ModelNames, where=f"{params}: models")


@dataclasses.dataclass(frozen=True)
class RankerPaths:
    """The ranker that is the reward, and the frozen one of the evaluation; without the second its columns stay away."""

    reward: Path
    check: Path | None

    def list_digests(self) -> list[str]:
        """Return the files' sha256."""
        digests = []
        for path in (self.reward, self.check):
            if path is not None:
                with path.open("rb") as file:
                    digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return digests


def load_models(names: ModelNames, rankers: RankerPaths, *, device: torch.device, dtype: torch.dtype) -> EvaluationModels:
    """Load every model once; the ranker says which encoder made its image features."""
    ranker = load_ranker(rankers.reward, device=device)
    encoder = names.visual if ranker.image_feature == "visual" else names.clip
    return EvaluationModels(
        clip=load_clip(names.metric_clip, device=device, dtype=dtype),
        visual=None if encoder == names.metric_clip else load_visual(encoder, device=device, dtype=dtype),
        ranker=ranker,
        perceptual=load_perceptual(names.perceptual, device=device),
        judge=load_judge(names.judge, device=device) if names.judge else None,
        check=load_second_ranker(names, rankers.check, device=device) if rankers.check else None,
    )


def load_second_ranker(names: ModelNames, path: Path, *, device: torch.device) -> SecondRanker:
    """Load the evaluation ranker and its encoder, which computes in float32 whatever `models.dtype` says: that is the method's."""
    return SecondRanker(load_check(path, device=device), load_visual(names.check_visual, device=device))


def list_generated(paths: Sequence[Path]) -> list[Generated]:
    """Open the generated tables that hold an image; ValueError if one holds images of several methods."""
    found = []
    for path in paths:
        keys = read_table(path, GENERATED, columns=[])
        methods = keys["method"].unique().to_pylist()
        if len(methods) > 1:
            raise ValueError(f"{path} holds images of the methods {', '.join(methods)}, but each method has one table.")
        if methods:
            found.append(Generated(methods[0], tuple(keys["case_id"].to_pylist()), ImageColumn(path, "case_id")))
    return found


def index_embeddings(embeddings: pa.Table, tasks: Sequence[Task]) -> dict[str, torch.Tensor]:
    """Return the embedding stage's CLIP image vectors of the items that the tasks compare with, by item_id."""
    needed = {item_id for task in tasks for item_id in task.list_items()}
    matrix_ND = get_matrix(embeddings, "clip_image")
    rows = [(item_id, row) for row, item_id in enumerate(embeddings["item_id"].to_pylist()) if item_id in needed]
    return {item_id: torch.from_numpy(np.array(matrix_ND[row], dtype=np.float32)) for item_id, row in rows}


def list_inputs(config: EvaluationConfig, names: ModelNames, rankers: RankerPaths, *, seed: int) -> object:
    """Return what every score depends on: the comparing params, the models, the rankers' files, the seed of the negatives."""
    knobs = {name: value for name, value in dataclasses.asdict(config).items() if name not in WITHOUT_EFFECT}
    return knobs, names.list_revisions(), names.dtype, rankers.list_digests(), seed


@dataclasses.dataclass
class Scored:
    """Every task's scores, or why its image cannot be read, by (method, case_id)."""

    values: dict[Key, dict[str, Any]]
    rejected: dict[Key, str]
    summary: Summary


def score_all(
    tasks: Sequence[Task],
    generated: Sequence[Generated],
    catalogue: Catalogue,
    models: EvaluationModels,
    config: EvaluationConfig,
    *,
    known_images: dict[str, torch.Tensor] | None,
    inputs: object,
    seed: int,
) -> Scored:
    """Score every task that the ledger lacks, method by method: no batch holds images of two, whose scores thus do not depend on each other."""
    known = known_images or {}
    store = ItemStore(
        catalogue, models.clip, models.perceptual, image_size=config.image_size, batch_size=config.batch_size, known_images=known, judge=models.judge
    )
    digests = {item_id: hashlib.sha256(vector_D.numpy().tobytes()).hexdigest() for item_id, vector_D in known.items()}
    names = [*(metric.name for metric in define_metrics(models.perceptual.name)), *DISTANCES]
    columns = pa.schema([*(pa.field(name, pa.float64()) for name in names), *(pa.field(name, pa.string()) for name in STYLES)])
    results = []
    with open_ledger(STAGE, columns, code=[score_tasks, load_models], inputs=inputs) as ledger:
        for drawn in generated:
            own = [task for task in tasks if task.method == drawn.method]
            rows = [Row((task.method, task.case_id), identify_task(task, catalogue, digests), task) for task in own]
            compute = partial(score_rows, drawn=drawn, store=store, models=models, seed=seed)
            label = f"{STAGE}, {drawn.method}"
            results.append(map_rows(ledger, rows, compute, batch_size=config.batch_size, label=label, in_copies=False).load())
    summaries = [result.summary for result in results]
    totals = {field.name: sum(getattr(summary, field.name) for summary in summaries) for field in dataclasses.fields(Summary)}
    values = {key: scores for result in results for key, scores in result.values.items()}
    rejected = {key: reason for result in results for key, reason in result.rejected.items()}
    return Scored(values, rejected, Summary(**totals))


def score_rows(rows: list[Row], *, drawn: Generated, store: ItemStore, models: EvaluationModels, seed: int) -> list[Any]:
    """Read one batch's images and score them."""
    tasks = [row.payload for row in rows]
    encoded = drawn.images.read([task.case_id for task in tasks])
    return score_tasks(tasks, [encoded[task.case_id] for task in tasks], store, models, seed=seed)


def build_scores(tasks: list[Task], result: Scored, metrics: tuple[Metric, ...]) -> pa.Table:
    """Build the table of scores: one row per (method, case) whose image could be read; columns without any value are left out."""
    pairs, rows = choose_pairs(tasks, result.values), []
    for task in tasks:
        key = (task.method, task.case_id)
        if (values := result.values.get(key)) is not None:
            rows.append({"method": task.method, "case_id": task.case_id, "user_id": task.user_id, **values, **pairs.get(key, {})})
    filled = {metric.name for metric in metrics if any(row.get(metric.name) is not None for row in rows)}
    return build_table([{name: value for name, value in row.items() if name in filled or name in SCORES.columns} for row in rows], SCORES)


def list_styles(tasks: Sequence[Task], result: Scored) -> dict[str, tuple[list[str], list[str]]]:
    """Return by method the styles of the images and those that their users wanted: by the judge's word, without a judge the nearest drawing's."""
    rows = [(task, result.values.get((task.method, task.case_id), {})) for task in tasks]
    name = next((name for name in STYLES if any(values.get(name) for _, values in rows)), None)
    found: dict[str, tuple[list[str], list[str]]] = {}
    for task, values in rows:
        if name is not None and values.get(name) and task.label is not None:
            drawn, wanted = found.setdefault(task.method, ([], []))
            drawn.append(values[name])
            wanted.append(task.label[0])
    return found
