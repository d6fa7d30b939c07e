"""From tables to a trained look map: lessons are the left-out pictures of training users' histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.artifacts import get_matrix
from pipeline.keywords.preference import PreferenceConfig
from pipeline.latents import compute_latents
from pipeline.looks.config import STAGE, LookTrainingConfig
from pipeline.looks.fit import ItemVectors, LookLesson, LookTraining, fit_look
from pipeline.looks.read import encode_pooled
from pipeline.looks.weights import compute_look_weights
from pipeline.models.denoising import Denoiser
from pipeline.models.lazy import LazyModel
from pipeline.models.look import LookMap, LookShape, fit_prediction
from pipeline.randomness import make_generator
from pipeline.retrieval.history import center_rows, list_unique
from pipeline.retrieval.index import compute_cosines
from pipeline.training import CurveRow

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion


@dataclass(frozen=True)
class LookResult:
    """What the stage writes."""

    look: LookMap
    metrics: dict[str, Any]
    curves: list[CurveRow]
    seconds: float


def run_look(
    cases: pa.Table,
    embeddings: pa.Table,
    items: Path,
    texts: Mapping[str, str],
    config: LookTrainingConfig,
    preference: PreferenceConfig,
    *,
    center: bool,
    diffusion: LazyModel[Diffusion],
    num_tokens: int,
    seed: int,
    checkpoint_every: int,
) -> LookResult:
    """Train on histories of training users and validate on those of validation users; `texts` are by item_id."""
    item_ids = embeddings["item_id"].to_pylist()
    visual_NV = torch.from_numpy(np.array(get_matrix(embeddings, "visual"), dtype=np.float32))
    vectors = ItemVectors(visual_NV, encode_pooled([texts.get(item_id, "") for item_id in item_ids], diffusion.model).clone())
    semantic_ND = get_matrix(embeddings, "semantic")
    semantic_ND = center_rows(semantic_ND) if center else semantic_ND
    pairs = {split: choose_pairs(cases, split, set(item_ids) & texts.keys(), count=count, seed=seed) for split, count in list_counts(config)}
    latents, _ = compute_latents(items, [item_id for chosen in pairs.values() for item_id, _ in chosen], diffusion)
    train, validation = (
        [build_lesson(pair, latents, texts, item_ids, semantic_ND, preference) for pair in chosen if pair[0] in latents] for chosen in pairs.values()
    )
    if not train or not validation:
        raise ValueError("no history of a training or of a validation user has two pictures with a text, so there is no look to learn from.")
    token_dim = diffusion.model.token_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        look = LookMap(LookShape(visual_dim=visual_NV.shape[1], text_dim=token_dim, width=config.width, num_tokens=num_tokens, token_dim=token_dim))
    fit_prediction(look, vectors.visual_NV, vectors.text_NC, ridge=config.ridge)
    training = LookTraining(look, vectors, train, validation, config, Denoiser(diffusion.model), seed=seed)
    state = fit_look(training, revision=diffusion.revision, checkpoint_every=checkpoint_every)
    rows = [row for row in state.curves if "validation_loss" in row]
    metrics = {
        "num_lessons": len(train),
        "validation_loss_before": rows[0]["validation_loss"],
        **{name: rows[-1][name] for name in rows[-1] if name[:4] == "vali"},
    }
    return LookResult(look, metrics, state.curves, state.seconds)


def list_counts(config: LookTrainingConfig) -> list[tuple[str, int]]:
    """List the splits that are learned from and measured on, with the most lessons of each."""
    return [("train", config.max_lessons), ("val", config.validation_lessons)]


def choose_pairs(cases: pa.Table, split: str, known: set[str], *, count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Choose at most `count` left-out items of a split's histories at random, each with the other items; all of them are known."""
    histories = [[item_id for item_id in list_unique(case["history"]) if item_id in known] for case in cases.to_pylist() if case["split"] == split]
    pairs = [(item_id, [other for other in history if other != item_id]) for history in histories for item_id in history if len(history) > 1]
    order = torch.randperm(len(pairs), generator=make_generator(seed, STAGE, split)).tolist()
    return [pairs[index] for index in order[:count]]


def build_lesson(
    pair: tuple[str, list[str]],
    latents: Mapping[str, torch.Tensor],
    texts: Mapping[str, str],
    item_ids: list[str],
    semantic_ND: np.ndarray,
    preference: PreferenceConfig,
) -> LookLesson:
    """Build the lesson of a left-out item and the others, which weigh as in a case whose reference it is."""
    left_out, others = pair
    place_of = {item_id: place for place, item_id in enumerate(item_ids)}
    places = [place_of[item_id] for item_id in others]
    cosine_N = torch.from_numpy(compute_cosines(semantic_ND[place_of[left_out]], semantic_ND[places]))
    weight_N = compute_look_weights(cosine_N, torch.empty(0), temperature=preference.look_temperature, consensus=0.0)
    return LookLesson(f"{left_out}/{len(others)}", latents[left_out], texts[left_out], torch.tensor(places), weight_N)
