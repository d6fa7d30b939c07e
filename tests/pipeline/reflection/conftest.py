"""A tiny world for reflection: real mapper, calibrator and ranker in small sizes, fakes for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.conditioning.calibrator import BalanceCalibrator
from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
from pipeline.conditioning.config import PromptFormat
from pipeline.conditioning.mapper import MapperShape, ModalMapper
from pipeline.data.cases import Case
from pipeline.models.fake import FakeClip, FakeDiffusion
from pipeline.ranker.micro import Micro
from pipeline.ranker.scoring import RankerScorer, build_scorer
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.inputs import ReflectionTables, build_batch
from pipeline.reflection.step import CaseBatch, ReflectionTools
from pipeline.schemas import CAPTIONS, EMBEDDINGS, RETRIEVED
from tests.configs import CALIBRATOR, RANKER, REFLECTION

NUM_USERS, NUM_ITEMS, LLM_DIM, NUM_TEXT, NUM_IMG = 12, 20, 6, 5, 3


@dataclass
class World:
    """Everything that a fit needs."""

    conditioner: Conditioner
    train: CaseBatch
    validation: CaseBatch
    tools: ReflectionTools
    config: ReflectionConfig
    tables: ReflectionTables
    cases: list[Case]
    inputs: ConditionInputs


def build_ranker(features_NV: torch.Tensor) -> RankerScorer:
    """Build an untrained ranker on random interactions."""
    generator = torch.Generator().manual_seed(11)
    pairs = torch.stack([torch.arange(NUM_USERS).repeat_interleave(3), torch.randint(NUM_ITEMS, (NUM_USERS * 3,), generator=generator)], dim=1)
    pairs = pairs.unique(dim=0)
    features = {"image": features_NV, "text": torch.randn(NUM_ITEMS, 4, generator=generator)}
    config = replace(RANKER, num_neighbors=4)
    weights = Micro(features, pairs, num_users=NUM_USERS, config=config, generator=generator).state_dict()
    users, items = [f"user{i:02d}" for i in range(NUM_USERS)], [f"item{i:02d}" for i in range(NUM_ITEMS)]
    return build_scorer(weights, features, pairs, config=config, user_ids=users, item_ids=items, image_feature="clip_image")


def build_tables(features_NV: torch.Tensor) -> ReflectionTables:
    """Build captions, embeddings and two retrieved items per case."""
    width = features_NV.shape[1]
    item_ids = [f"item{i:02d}" for i in range(NUM_ITEMS)]
    captions = [{"item_id": item_id, "caption": f"picture of thing {item_id}"} for item_id in item_ids]
    vectors = features_NV.numpy().astype(np.float32)
    embeddings = [
        {"item_id": item_id, "semantic": vector, "visual": vector, "clip_image": vector} for item_id, vector in zip(item_ids, vectors, strict=True)
    ]
    retrieved = [
        {"case_id": f"case{c:02d}", "rank": rank, "item_id": item_ids[(c + rank) % NUM_ITEMS], "similarity": 0.5, "weight": 0.5}
        for c in range(NUM_USERS)
        for rank in range(2)
    ]
    dims = {"semantic": width, "visual": width, "clip_image": width}
    return ReflectionTables(
        captions=pa.Table.from_pylist(captions, schema=CAPTIONS.build_schema()),
        embeddings=pa.Table.from_pylist(embeddings, schema=EMBEDDINGS.build_schema(dims)),
        retrieved=pa.Table.from_pylist(retrieved, schema=RETRIEVED.build_schema()),
    )


def build_conditioner(diffusion: FakeDiffusion) -> Conditioner:
    """Build an untrained conditioner of the real classes."""
    generator = torch.Generator().manual_seed(5)
    shape = MapperShape(
        d_model=8,
        num_layers=1,
        num_heads=2,
        ffn_dim=16,
        input_dim=LLM_DIM,
        num_img_tokens=NUM_IMG,
        num_tokens=diffusion.num_tokens,
        token_dim=diffusion.token_dim,
    )
    calibrator = BalanceCalibrator(replace(CALIBRATOR, init_scale=5.0), llm_dim=LLM_DIM, token_dim=diffusion.token_dim, generator=generator)
    img_vectors_LD = torch.randn(NUM_IMG, LLM_DIM, generator=generator)
    return Conditioner(
        ModalMapper(shape, generator=generator), calibrator, img_vectors_LD, PromptFormat(prompt_style="chat", max_text_tokens=NUM_TEXT)
    )


def build_world(settings: dict[str, Any] | None = None) -> World:
    """Build the world; equal settings give equal worlds in every process."""
    config = replace(REFLECTION, **(settings or {}))
    diffusion, clip = FakeDiffusion(), FakeClip()
    features_NV = torch.nn.functional.normalize(torch.randn(NUM_ITEMS, clip.dim, generator=torch.Generator().manual_seed(2)), dim=1)
    scorer, tables = build_ranker(features_NV), build_tables(features_NV)
    tools = ReflectionTools(diffusion=diffusion, encoder=clip, ranker=scorer, project=clip.project_text_states)
    cases = [
        Case(
            case_id=f"case{c:02d}",
            user_id=f"user{c:02d}",
            reference_id=f"item{c:02d}",
            truth_id=None,
            history=(),
            keywords=("neon",),
            keyword_prompt=f"thing{c}, neon",
            retrieved_prompt=f"thing{c}, neon",
            global_prompt=f"a neon thing{c}",
            detailed_prompt=f"draw thing{c}",
        )
        for c in range(NUM_USERS)
    ]
    generator = torch.Generator().manual_seed(3)
    global_BKD, global_mask_BK = diffusion.encode_prompts([case.global_prompt for case in cases])
    mask_BT = torch.ones(NUM_USERS, NUM_TEXT, dtype=torch.bool)
    mask_BT[::2, -1] = False
    text_BTD = torch.randn(NUM_USERS, NUM_TEXT, LLM_DIM, generator=generator) * mask_BT[..., None]
    inputs = ConditionInputs(text_BTD, mask_BT, torch.randn(NUM_USERS, NUM_IMG, LLM_DIM, generator=generator), global_BKD, global_mask_BK)
    batch = build_batch(cases, inputs, tables, tools, config, seed=1, identity={"models": "fake"})
    return World(
        conditioner=build_conditioner(diffusion),
        train=batch.select(list(range(8))),
        validation=batch.select(list(range(8, 12))),
        tools=tools,
        config=config,
        tables=tables,
        cases=cases,
        inputs=inputs,
    )


@pytest.fixture
def world() -> World:
    """The default world."""
    return build_world()


@pytest.fixture
def make_world() -> Callable[..., World]:
    """A builder of worlds with other settings."""
    return build_world
