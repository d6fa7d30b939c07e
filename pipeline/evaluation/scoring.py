"""Score tasks: every column of Table 1, ΔR (eq. 16), Table 4, and the distance to the known right answer.

Paper: section "Evaluation Metrics", eq. 16, Table 4. `pipeline.metrics.definitions` says what each column compares.
Departures: 1. ranks come from the whole catalogue without the user's history, since with the three-way rank of eq. 10 ΔR could
not reach the printed values; 2. R@10 and N@10 put one positive, the reference with the drawn image in its place, against
the whole catalogue, and again against 99 sampled items (the paper does not say which); 3. style, concept and truth
columns exist only where the data set knows the right answer; 4. ΔR is computed again by the evaluation ranker, another kind of model with another
image encoder that no training has seen and no param of the method changes: what fools the reward alone does not move it.
Shapes: B tasks, D embedding width, M history items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pipeline.data.images import decode_batch, decode_drawing
from pipeline.evaluation.features import ItemStore, PixelFeatures, compute_looks, compute_pixel_features, resize_image
from pipeline.evaluation.inputs import Task
from pipeline.evaluation.whereabouts import DISTANCES, STYLES, Look, locate_image
from pipeline.metrics.definitions import define_metrics
from pipeline.metrics.image import PERCENT, compute_cosine_score, compute_history_mean, compute_ssim_from_moments
from pipeline.metrics.protocol import CUTOFF, NUM_NEGATIVES
from pipeline.metrics.ranking import compute_ndcg, compute_rank_change, compute_rank_gain, compute_recall
from pipeline.models.judge import Judge
from pipeline.models.perceptual import Perceptual
from pipeline.models.protocols import ClipModel, ImageEncoder
from pipeline.ranker.scoring import RankerScorer
from pipeline.ranker_check.scoring import CheckScorer
from pipeline.rows import Rejection
from pipeline.side_by_side import compute_side_by_side

Scores = dict[str, float | str | None]  # the names are of styles


@dataclass(frozen=True)
class SecondRanker:
    """The frozen evaluation ranker, which is never a reward, and the encoder of its image features."""

    scorer: CheckScorer
    encoder: ImageEncoder


@dataclass(frozen=True)
class EvaluationModels:
    """Everything that looks at images; `visual` is None where the ranker reads the metric CLIP's own vectors."""

    clip: ClipModel
    visual: ImageEncoder | None
    ranker: RankerScorer
    perceptual: Perceptual
    judge: Judge | None
    check: SecondRanker | None = None


@dataclass(frozen=True)
class Drawn:
    """The drawn images of a batch and their CLIP vectors, row by row."""

    tasks: list[Task]
    images: list[Image.Image]
    clip_BD: Tensor


def score_tasks(
    tasks: Sequence[Task], encoded: Sequence[bytes], store: ItemStore, models: EvaluationModels, *, seed: int
) -> list[Scores | Rejection]:
    """Return one row of scores for every task and its encoded image, or why the image cannot be read."""
    images, reasons = decode_batch(encoded, decode_drawing)  # a blank drawing is scored
    arrays = [resize_image(image, store.image_size) for image in images]
    drawn = Drawn(list(tasks), images, models.clip.encode_images(images))
    parts: list[Callable[[], Any]] = [  # the longest first; only one of them reads the items' images
        partial(fetch_items, drawn.tasks, store),
        lambda: store.get_texts(item_id for task in tasks for item_id in (*task.history, task.reference_id)),
        partial(score_ranks, drawn, models, seed=seed),
        partial(score_check_ranks, drawn, models.check),
        partial(compute_own_looks, drawn, store),
        partial(score_verdicts, drawn, models.judge),
        partial(compute_pixel_features, arrays, models.perceptual),
    ]
    _, _, ranked, checked, looks, judged, pixels = compute_side_by_side(lambda part: part(), parts)
    located = score_whereabouts(drawn, looks, store)
    blank: Scores = dict.fromkeys([*(metric.name for metric in define_metrics(models.perceptual.name)), *DISTANCES, *STYLES])
    outcomes: list[Scores | Rejection] = []
    for row in range(len(tasks)):
        if row in reasons:
            outcomes.append(Rejection(reasons[row]))
            continue
        compared = score_vectors(drawn, row, store) | score_pixels(drawn.tasks[row], pixels.select([row]), store, models.perceptual)
        outcomes.append(blank | compared | ranked[row] | checked[row] | judged[row] | located[row])
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


def score_pixels(task: Task, own: PixelFeatures, store: ItemStore, perceptual: Perceptual) -> Scores:
    """Compute perceptual distance and SSIM (x100) of one image against history, reference and truth."""
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


def score_ranks(drawn: Drawn, models: EvaluationModels, *, seed: int) -> list[Scores]:
    """Compute the rank columns of a batch; empty for users or references that the ranker does not know."""
    ranker, scores = models.ranker, [Scores() for _ in drawn.tasks]
    known = list_known(drawn, ranker)
    if not known:
        return scores
    tasks = [drawn.tasks[i] for i in known]
    pairs = [task.user_id for task in tasks], [task.reference_id for task in tasks]
    exclude = [list(task.masked) for task in tasks]
    sampled = ranker.draw_negatives([task.case_id for task in tasks], pairs[1], exclude=exclude, count=NUM_NEGATIVES, seed=seed)
    features_BD = drawn.clip_BD if models.visual is None else models.visual.encode_images(drawn.images)
    original_B = ranker.rank_original(*pairs, exclude=exclude)
    generated_B = ranker.rank_substituted(*pairs, features_BD[known], exclude=exclude)
    sampled_B = ranker.rank_substituted(*pairs, features_BD[known], exclude=exclude, negatives=sampled)
    columns = build_rank_columns(original_B, generated_B, sampled_B)
    for i, row in enumerate(known):
        scores[row] = {name: float(values[i]) for name, values in columns.items()}
    return scores


def score_check_ranks(drawn: Drawn, check: SecondRanker | None) -> list[Scores]:
    """Compute the second ranker's columns of a batch; empty without one, and for users or references that it does not know."""
    scores = [Scores() for _ in drawn.tasks]
    known = list_known(drawn, check.scorer) if check else []
    if check is None or not known:
        return scores
    tasks = [drawn.tasks[i] for i in known]
    pairs = [task.user_id for task in tasks], [task.reference_id for task in tasks]
    exclude = [list(task.masked) for task in tasks]
    features_BD = check.encoder.encode_images(drawn.images)[known]
    original_B = check.scorer.rank_original(*pairs, exclude=exclude)
    generated_B = check.scorer.rank_substituted(*pairs, features_BD, exclude=exclude)
    columns = build_check_columns(original_B, generated_B)
    for i, row in enumerate(known):
        scores[row] = {name: float(values[i]) for name, values in columns.items()}
    return scores


def list_known(drawn: Drawn, ranker: RankerScorer | CheckScorer) -> list[int]:
    """List the rows whose user and reference a ranker knows."""
    return [i for i, task in enumerate(drawn.tasks) if task.user_id in ranker.user_index and task.reference_id in ranker.item_index]


def build_check_columns(original_B: Tensor, generated_B: Tensor) -> dict[str, Tensor]:
    """Compute the second ranker's metrics from the ranks of the original and the drawn image."""
    return {
        "rank_original_check": original_B,
        "rank_generated_check": generated_B,
        "delta_r_check": compute_rank_change(original_B, generated_B),
        "log2_rank_gain_check": compute_rank_gain(original_B, generated_B),
    }


def build_rank_columns(original_B: Tensor, generated_B: Tensor, sampled_B: Tensor) -> dict[str, Tensor]:
    """Compute every rank metric from the ranks of the original and the drawn image, the latter also among sampled negatives."""
    return {
        "rank_original": original_B,
        "rank_generated": generated_B,
        "delta_r": compute_rank_change(original_B, generated_B),
        "log2_rank_gain": compute_rank_gain(original_B, generated_B),
        "rank_improved": generated_B < original_B,
        f"hit_at_{CUTOFF}": compute_recall(generated_B[:, None], k=CUTOFF),
        f"ndcg_at_{CUTOFF}": compute_ndcg(generated_B[:, None], k=CUTOFF),
        f"hit_at_{CUTOFF}_sampled": compute_recall(sampled_B[:, None], k=CUTOFF),
        f"ndcg_at_{CUTOFF}_sampled": compute_ndcg(sampled_B[:, None], k=CUTOFF),
    }


def score_verdicts(drawn: Drawn, judge: Judge | None) -> list[Scores]:
    """Compare the judge's verdicts with the truth's labels; empty without a judge, a label, or a name that the judge knows."""
    if judge is None:
        return [Scores() for _ in drawn.tasks]
    arrays = [resize_image(image, judge.config.image_size) for image in drawn.images]
    scores: list[Scores] = []
    for task, verdict in zip(drawn.tasks, judge.name_images(arrays), strict=True):
        row: Scores = {}
        if task.label is not None and task.label[0] in judge.config.styles:
            row["named_style"] = verdict.style
            row["style_accuracy"] = float(verdict.style == task.label[0])
        if task.label is not None and task.label[1] in judge.config.concepts:
            row["concept_accuracy"] = float(verdict.concepts[0] == task.label[1])
            row["concept_top5"] = float(task.label[1] in verdict.concepts)
        scores.append(row)
    return scores


def fetch_items(tasks: Sequence[Task], store: ItemStore) -> None:
    """Compute what the images of a batch are compared with, but for texts."""
    store.prefetch(item_id for task in tasks for item_id in task.list_items())
    store.get_looks(item_id for task in tasks for item_id in list_neighbours(task))


def list_neighbours(task: Task) -> list[str]:
    """List the items among which an image is located: none where the data set has no labels and no matched pairs."""
    drawings = task.list_drawings()
    return [*drawings, *([task.truth_id] if task.truth_id else [])] if drawings else []


def compute_own_looks(drawn: Drawn, store: ItemStore) -> list[Look] | None:
    """Compute the looks of the whole batch, as every batch is of one size; None where no image is located."""
    return compute_looks(drawn.images, store.judge) if any(list_neighbours(task) for task in drawn.tasks) else None


def score_whereabouts(drawn: Drawn, looks: list[Look] | None, store: ItemStore) -> list[Scores]:
    """Locate every image among the drawings of its thing."""
    if looks is None:
        return [Scores() for _ in drawn.tasks]
    around = [list_neighbours(task) for task in drawn.tasks]
    return [locate_image(task, own, store.get_looks(items)) if items else {} for task, own, items in zip(drawn.tasks, looks, around, strict=True)]
