"""Gather what reflection needs of every case: cached states, P^ret, the caption's states, and the scores of reference and global image.

The reference's score is the ranker's score of the unchanged item; the global image's is computed once, from the same diffusion noise as
every other reward image of the case, and kept in the ledger. A case is left out if its reference has no caption or no embedding, or
if its user or reference is unknown to the ranker.

Shapes: B cases, C comparators (reference, global), V feature width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts import get_matrix
from pipeline.columns import map_columns
from pipeline.conditioning.conditioner import ConditionInputs
from pipeline.data.cases import Case
from pipeline.ledger import open_ledger
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.policy import draw_images, encode_drawings
from pipeline.reflection.reward import compute_z_scores
from pipeline.reflection.step import CaseBatch, ReflectionTools, score_features
from pipeline.retrieval.history import build_retrieval_preferences
from pipeline.rows import Row, map_rows

GLOBAL_COLUMNS = pa.schema([pa.field("score", pa.float64())])


@dataclass(frozen=True)
class ReflectionTables:
    """The tables that reflection reads, apart from cases and preferences."""

    captions: pa.Table
    embeddings: pa.Table
    retrieved: pa.Table
    texts: Mapping[str, str] | None = None  # by item_id; what eq. 14 is about in the place of captions, where look tokens are


def keep_usable(cases: Sequence[Case], tables: ReflectionTables, tools: ReflectionTools) -> list[Case]:
    """Return the cases whose reference has a caption and an embedding and that the ranker can score."""
    captioned = set(tables.captions["item_id"].to_pylist())
    embedded = set(tables.embeddings["item_id"].to_pylist())
    known = captioned & embedded & set(tools.ranker.item_ids)
    users = set(tools.ranker.user_ids)
    return [case for case in cases if case.reference_id in known and case.user_id in users]


def compute_global_scores(cases: Sequence[Case], tools: ReflectionTools, config: ReflectionConfig, *, seed: int, identity: dict[str, str]) -> Tensor:
    """Score the image of E^g alone for every case -> raw scores (B,), from the ledger where they are known."""
    sampler = (config.reward_steps, config.reward_guidance, config.reward_scheduler, config.draw_batch)
    rows = [
        Row(case.case_id, {"case_id": case.case_id, "user": case.user_id, "reference": case.reference_id, "prompt": case.global_prompt}, case)
        for case in cases
    ]

    def compute(batch: list[Row]) -> list[dict[str, float]]:
        chosen = [row.payload for row in batch]
        prompt_BTD, _ = tools.diffusion.encode_prompts([case.global_prompt for case in chosen])
        images = draw_images(
            tools.diffusion,
            prompt_BTD[:, None],
            [case.case_id for case in chosen],
            seed=seed,
            steps=config.reward_steps,
            guidance_scale=config.reward_guidance,
            batch_size=config.draw_batch,
        )
        users, references = tuple(case.user_id for case in chosen), tuple(case.reference_id for case in chosen)
        score_B1 = score_features(encode_drawings(tools.encoder, images), users, references, tools.ranker)
        return [{"score": score} for score in score_B1[:, 0].tolist()]

    code = [compute_global_scores, tools.diffusion, tools.encoder, tools.ranker]
    with open_ledger("reflection-global", GLOBAL_COLUMNS, code=code, inputs=(identity, sampler, seed)) as ledger:
        result = map_rows(ledger, rows, compute, batch_size=config.draw_batch, label="reflection: global images").load()
    return torch.tensor([result.values[case.case_id]["score"] for case in cases])


def build_batch(
    cases: Sequence[Case],
    inputs: ConditionInputs,
    tables: ReflectionTables,
    tools: ReflectionTools,
    config: ReflectionConfig,
    *,
    seed: int,
    identity: dict[str, str],
) -> CaseBatch:
    """Gather the frozen facts of `cases`, to which the rows of `inputs` belong."""
    caption_of = map_columns(tables.captions, "item_id", "caption") | dict(tables.texts or {})
    caption_BSD, _ = tools.diffusion.encode_prompts([caption_of[case.reference_id] for case in cases])
    case_ids = [case.case_id for case in cases]
    retrieved_BV, has_retrieved_B = build_retrieval_preferences(tables.retrieved, tables.embeddings, case_ids, feature=config.retrieved_feature)
    users, references = [case.user_id for case in cases], [case.reference_id for case in cases]
    global_B = compute_global_scores(cases, tools, config, seed=seed, identity=identity)
    raw_BC = torch.stack([tools.ranker.score_original(users, references).float(), global_B], dim=1)
    mean_B, std_B = tools.ranker.user_mean_std(users)
    if not config.standardise_scores:
        mean_B, std_B = torch.zeros_like(mean_B), torch.ones_like(std_B)
    return CaseBatch(
        case_ids=tuple(case_ids),
        user_ids=tuple(users),
        reference_ids=tuple(references),
        inputs=inputs,
        caption_BSD=caption_BSD.clone(),  # cloned: inference tensors cannot take part in a loss
        semantic_BV=look_up_vectors(tables.embeddings, references, column="semantic"),
        retrieved_BV=retrieved_BV,
        has_retrieved_B=has_retrieved_B,
        comparator_BC=compute_z_scores(raw_BC, mean_B.float(), std_B.float()).clone(),
        mean_B=mean_B.float().clone(),
        std_B=std_B.float().clone(),
    )


def look_up_vectors(embeddings: pa.Table, item_ids: Sequence[str], *, column: str) -> Tensor:
    """Return one column's vectors of the items (B, V), float32."""
    place_of = {item_id: row for row, item_id in enumerate(embeddings["item_id"].to_pylist())}
    return torch.from_numpy(np.array(get_matrix(embeddings, column)[[place_of[item_id] for item_id in item_ids]], dtype=np.float32))


def check_spaces(batch: CaseBatch, tools: ReflectionTools, config: ReflectionConfig) -> None:
    """Raise ValueError if a loss would compare vectors of different widths."""
    token_dim, semantic_dim = batch.caption_BSD.shape[2], batch.semantic_BV.shape[1]
    if config.semantic == "literal" and semantic_dim != token_dim:
        raise ValueError(
            f"reflection.semantic is 'literal', but E_N^sem has width {semantic_dim} and the rows of E^d have {token_dim}; use 'mapped'."
        )
    if not batch.has_retrieved_B.any():
        return
    retrieved_dim = batch.retrieved_BV.shape[1]
    if config.calibration == "literal" and retrieved_dim != token_dim:
        raise ValueError(
            f"reflection.calibration is 'literal', but P^ret ({config.retrieved_feature}) has width {retrieved_dim} and the rows of P^gen have "
            f"{token_dim}; use 'pooled'."
        )
    with torch.no_grad():
        joint_dim = tools.project(batch.caption_BSD[:1, 0]).shape[1]
    if config.calibration == "pooled" and retrieved_dim != joint_dim:
        raise ValueError(
            f"reflection.retrieved_feature is {config.retrieved_feature!r} with width {retrieved_dim}, but the text encoder projects into a "
            f"space of width {joint_dim}; use 'clip_image', or calibration 'literal'."
        )
