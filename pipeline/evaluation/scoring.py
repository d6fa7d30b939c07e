"""Score tasks: every column of Table 1, ΔR (eq. 16), Table 4, and the distance to the known right answer.

Paper: section "Evaluation Metrics", eq. 16, Table 4. `pipeline.metrics.definitions` says what each column compares.
Departures: 1. ranks come from the whole catalogue without the user's history, since with the three-way rank of eq. 10 ΔR could
not reach the printed values; 2. R@10 and N@10 put one positive, the reference with the drawn image in its place, against
the whole catalogue; 3. style, concept and truth columns exist only where the data set knows the right answer.
Shapes: B tasks, D embedding width, M history items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from pipeline.data.images import decode_batch
from pipeline.evaluation.features import ClipModel, ItemStore, PixelFeatures, compute_pixel_features, resize_image
from pipeline.evaluation.inputs import Task
from pipeline.ledger import Rejection
from pipeline.metrics.definitions import CUTOFF, define_metrics
from pipeline.metrics.image import PERCENT, compute_cosine_score, compute_history_mean, compute_ssim_from_moments
from pipeline.metrics.ranking import compute_ndcg, compute_rank_change, compute_rank_gain, compute_recall
from pipeline.models.judge import Judge
from pipeline.models.perceptual import Perceptual

Scores = dict[str, float | None]


class ImageEncoder(Protocol):
    """The encoder that made the ranker's image features."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor: ...


class Ranker(Protocol):
    """The part of the ranker's scorer that evaluation uses; ranks count from 1 = best."""

    item_index: dict[str, int]
    user_index: dict[str, int]

    def rank_original(self, user_ids: list[str], reference_ids: list[str], *, exclude: list[list[str]]) -> Tensor: ...
    def rank_substituted(
        self, user_ids: list[str], reference_ids: list[str], features_BD: Tensor, *, exclude: list[list[str]]
    ) -> Tensor: ...


@dataclass(frozen=True)
class EvaluationModels:
    """Everything that looks at images; `visual` is None where the ranker reads the metric CLIP's own vectors."""

    clip: ClipModel
    visual: ImageEncoder | None
    ranker: Ranker
    perceptual: Perceptual
    judge: Judge | None


@dataclass(frozen=True)
class Drawn:
    """The drawn images of a batch and what the models make of them, row by row."""

    tasks: list[Task]
    images: list[Image.Image]
    clip_BD: Tensor
    pixels: PixelFeatures


def score_tasks(tasks: Sequence[Task], store: ItemStore, models: EvaluationModels) -> list[Scores | Rejection]:
    """Return one row of scores for every task, or why its image cannot be read."""
    images, reasons = decode_batch([task.image for task in tasks])
    store.prefetch(item_id for task in tasks for item_id in task.list_items())
    arrays = [resize_image(image, store.image_size) for image in images]
    drawn = Drawn(list(tasks), images, models.clip.encode_images(images), compute_pixel_features(arrays, models.perceptual))
    blank: Scores = dict.fromkeys(metric.name for metric in define_metrics(models.perceptual.name))
    ranked, judged = score_ranks(drawn, models), score_verdicts(drawn, models.judge)
    outcomes: list[Scores | Rejection] = []
    for row in range(len(tasks)):
        if row in reasons:
            outcomes.append(Rejection(reasons[row]))
            continue
        compared = score_vectors(drawn, row, store) | score_pixels(drawn, row, store, models.perceptual)
        outcomes.append(blank | compared | ranked[row] | judged[row])
    return outcomes


def score_vectors(drawn: Drawn, row: int, store: ItemStore) -> Scores:
    """Compute the CLIP scores of one image against history, reference and truth."""
    task, clip_1D = drawn.tasks[row], drawn.clip_BD[row : row + 1]
    images, texts = store.get_images(task.list_items()), store.get_texts((*task.history, task.reference_id))

    def compare(vectors: dict[str, Tensor], item_ids: Sequence[str]) -> float | None:
        chosen = [vectors[item_id] for item_id in item_ids if item_id in vectors]
        return compute_history_mean(compute_cosine_score(clip_1D, torch.stack(chosen))) if chosen else None

    return {
        "cps": compare(texts, task.history),
        "cpis": compare(images, task.history),
        "cs": compare(texts, [task.reference_id]),
        "cis": compare(images, [task.reference_id]),
        "cis_truth": compare(images, [task.truth_id] if task.truth_id else []),
        "num_history": float(sum(item_id in images for item_id in task.history)),
    }


def score_pixels(drawn: Drawn, row: int, store: ItemStore, perceptual: Perceptual) -> Scores:
    """Compute perceptual distance and SSIM (x100) of one image against history, reference and truth."""
    task, own = drawn.tasks[row], drawn.pixels.select([row])
    item_ids, others = store.get_pixels(task.list_items())
    if others is None:
        return {}
    distance = perceptual.compute_distances(own.perceptual, others.perceptual)
    similarity = compute_ssim_from_moments(own.moments, others.moments, data_range=1.0).cpu()
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    groups = {"pers": list(task.history), "sem": [task.reference_id], "truth": [task.truth_id] if task.truth_id else []}
    scores: Scores = {}
    for suffix, chosen in groups.items():
        rows = [row_of[item_id] for item_id in chosen if item_id in row_of]
        scores[f"{perceptual.name}_{suffix}"] = compute_history_mean(PERCENT * distance[rows])
        scores[f"ssim_{suffix}"] = compute_history_mean(PERCENT * similarity[rows])
    return scores


def score_ranks(drawn: Drawn, models: EvaluationModels) -> list[Scores]:
    """Compute the rank columns of a batch; empty for users or references that the ranker does not know."""
    ranker, scores = models.ranker, [Scores() for _ in drawn.tasks]
    known = [
        row for row, task in enumerate(drawn.tasks) if task.user_id in ranker.user_index and task.reference_id in ranker.item_index
    ]
    if not known:
        return scores
    users, references = ([getattr(drawn.tasks[row], name) for row in known] for name in ("user_id", "reference_id"))
    exclude = [list(drawn.tasks[row].masked) for row in known]
    features_BD = drawn.clip_BD if models.visual is None else models.visual.encode_images(drawn.images)
    original_B = ranker.rank_original(users, references, exclude=exclude)
    generated_B = ranker.rank_substituted(users, references, features_BD[known], exclude=exclude)
    columns = {
        "rank_original": original_B,
        "rank_generated": generated_B,
        "delta_r": compute_rank_change(original_B, generated_B),
        "log2_rank_gain": compute_rank_gain(original_B, generated_B),
        "rank_improved": generated_B < original_B,
        f"hit_at_{CUTOFF}": compute_recall(generated_B[:, None], k=CUTOFF),
        f"ndcg_at_{CUTOFF}": compute_ndcg(generated_B[:, None], k=CUTOFF),
    }
    for place, row in enumerate(known):
        scores[row] = {name: float(values[place]) for name, values in columns.items()}
    return scores


def score_verdicts(drawn: Drawn, judge: Judge | None) -> list[Scores]:
    """Compare the judge's verdicts with the truth's labels; empty without a judge, a label, or a name that the judge knows."""
    if judge is None:
        return [Scores() for _ in drawn.tasks]
    arrays = [resize_image(image, judge.config.image_size) for image in drawn.images]
    scores: list[Scores] = []
    for task, (style, concept) in zip(drawn.tasks, judge.name_images(arrays), strict=True):
        row: Scores = {}
        if task.label is not None and task.label[0] in judge.config.styles:
            row["style_accuracy"] = float(style == task.label[0])
        if task.label is not None and task.label[1] in judge.config.concepts:
            row["concept_accuracy"] = float(concept == task.label[1])
        scores.append(row)
    return scores
