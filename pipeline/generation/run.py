"""From tables and params to the drawn cases of one method."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.artifacts import build_provenance, read_table
from pipeline.columns import map_columns
from pipeline.cost import summarise_rows
from pipeline.data.cases import select_cases
from pipeline.generation.build import build_method
from pipeline.generation.config import OWN_MODELS, GenerationConfig
from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.drawing import draw_cases
from pipeline.metrics.matched_pairs import find_matched_pairs
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.models.text_budget import load_text_budget
from pipeline.params import load_params, load_seed, read_section
from pipeline.rows import Key, MapResult
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, CASES, EMBEDDINGS, ITEMS, LOOKS, PREFERENCES
from pipeline.table_images import ImageColumn

STAGE = "generation"
OF_TRUTHS = ("truth", "reconstruction", "oracle")  # methods that read the answer


@dataclass(frozen=True)
class Drawn:
    """The outcome of every case, where it came from, what it cost, and which share of the cases may be rejected."""

    result: MapResult
    provenance: dict[str, object]
    cost: dict[str, Any]
    num_cut: int  # drawn cases with a prompt that the text encoder would not have read whole
    max_rejected_fraction: float


def draw_method(method: str, params: Path, files: Mapping[str, Path]) -> Drawn:
    """Draw the cases of the configured splits by `method`; `files` are the stage's inputs by name (`cases`, `items`, ...)."""
    context = build_context(params, files)
    chosen = build_method(method, context)
    result = draw_cases(chosen, method, context.cases, batch_size=context.config.batch_size, device=context.device)
    # a data set need not know any truth; one that knows some must know nearly all
    knows_no_truth = method in OF_TRUTHS and not any(case.truth_id for case in context.cases)
    has_no_weights = method in OWN_MODELS and read_section(params, f"models.{method}") is None  # which not everybody has
    return Drawn(
        result,
        build_provenance(f"{STAGE}@{method}", method=method, identity=chosen.identity),
        summarise_rows(result.values.values(), context.device),
        count_cut(chosen, set(result.values)),
        1.0 if knows_no_truth or has_no_weights else context.config.max_rejected_fraction,
    )


def count_cut(method: Method, drawn: Collection[Key]) -> int:
    """Count the drawn cases whose prompts had to be shortened."""
    prompts = (method.list_prompts(case) for case in method.context.cases if case.case_id in drawn)
    return sum(not all(map(method.context.budget.model.reads, texts)) for texts in prompts if texts)


def build_context(params: Path, files: Mapping[str, Path]) -> GenerationContext:
    """Read what every method may use."""
    config, device = load_params(params, STAGE, GenerationConfig), resolve_device(load_runtime(params))
    reference, dtype_name = read_reference(params, "diffusion"), read_section(params, "models.dtype")
    options = {"device": device, "dtype": parse_dtype(dtype_name, device), "scheduler": config.scheduler}
    cases, items = read_table(files["cases"], CASES), read_table(files["items"], ITEMS, columns=["text", "image_sha256"])
    preferences, looks = (read_table(files[table.name], table) if table.name in files else None for table in (PREFERENCES, LOOKS))
    return GenerationContext(
        params=params,
        config=config,
        seed=load_seed(params),
        device=device,
        cases=select_cases(cases, preferences, config.splits, looks),
        items=items,
        images=ImageColumn(files["items"]),
        captions=read_table(files["captions"], CAPTIONS) if "captions" in files else None,
        diffusion=LazyModel(f"{compute_model_revision(reference)} {dtype_name}", lambda: load_diffusion(reference, **options)),
        files=dict(files),
        budget=LazyModel("", lambda: load_text_budget(reference)),
        embeddings=read_table(files["embeddings"], EMBEDDINGS, columns=["visual"]) if "embeddings" in files else None,
        has_looks=looks is not None and len(looks) > 0,
        noise_of=share_noise(cases, items, config.splits),
    )


def share_noise(cases: pa.Table, items: pa.Table, splits: Sequence[str]) -> dict[str, str]:
    """Let both cases of a matched pair start from the noise of the first, so that their images differ by what their users like alone."""
    rows, text_of = cases.to_pylist(), map_columns(items, "item_id", "text")
    pairs = (pair for split in splits for pair in find_matched_pairs(rows, text_of, split))
    return {second: first for first, second in pairs}
