"""Cases, items and a context with a fake diffusion model, from which a method is drawn in a moment."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from pipeline.artifacts import write_tensors
from pipeline.data.cases import Case
from pipeline.data.images import encode_png
from pipeline.generation.build import build_method
from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.drawing import draw_cases
from pipeline.models.fake import FakeDiffusion
from pipeline.models.lazy import LazyModel
from pipeline.models.text_budget import TextBudget
from pipeline.rows import MapResult
from pipeline.schemas import CAPTIONS, ITEMS
from tests.broken_items import TableImages, draw_halves
from tests.configs import GENERATION

TITLE = "Women Summer Boho Floral Print Dress with Pockets"
SIX_WORDS = TextBudget(lambda text: len(text.replace(",", " ").split()), 6)


def make_png(level: int) -> bytes:
    return encode_png(draw_halves((level, 0, 255), 8))


def make_case(index: int, *, truth_id: str | None = "item0", reference_id: str | None = None) -> Case:
    return Case(
        case_id=f"case{index:02d}",
        user_id=f"user{index}",
        reference_id=reference_id or f"item{index % 4}",
        truth_id=truth_id,
        history=("item0",),
        keywords=("neon",),
        keyword_prompt=f"red thing {index}",
        retrieved_prompt=f"blue thing {index}",
        global_prompt=f"neon thing {index}",
        detailed_prompt="draw a neon thing",
    )


def make_items(images: list[bytes], texts: list[str]) -> pa.Table:
    rows = [
        {"item_id": f"item{i}", "image": {"bytes": image, "path": None}, "text": text, "category": "", "image_sha256": f"digest{i}"}
        for i, (image, text) in enumerate(zip(images, texts, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS.build_schema())


def make_context(
    cases: list[Case], *, images: list[bytes] | None = None, texts: list[str] | None = None, negative_prompt: str = ""
) -> GenerationContext:
    folder = Path(os.environ["DVC_ROOT"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text("seed: 7\nmodels: {ip_adapter: null}\n")
    write_tensors(folder / "lora.safetensors", {})
    captions = pa.Table.from_pylist([{"item_id": "item1", "caption": "a cat"}], schema=CAPTIONS.build_schema())
    items = make_items(images or [make_png(60 * i) for i in range(4)], texts or ["dog", "cat", "car", "sun"])
    return GenerationContext(
        params=folder / "params.yaml",
        config=replace(GENERATION, negative_prompt=negative_prompt),
        seed=7,
        device=torch.device("cpu"),
        cases=cases,
        items=items,
        images=TableImages(items),
        captions=captions,
        diffusion=LazyModel("fake-1", FakeDiffusion),
        files={"lora": folder / "lora.safetensors"},
    )


def read_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def make_case_row(case_id: str, split: str) -> dict[str, object]:
    return {"case_id": case_id, "user_id": "u", "split": split, "history": ["item0"], "reference_id": "item1", "truth_id": None}


def draw(method: str | Method, context: GenerationContext, *, batch_size: int = 3) -> MapResult:
    chosen = build_method(method, context) if isinstance(method, str) else method
    result = draw_cases(chosen, "toy", context.cases, batch_size=batch_size, device=torch.device("cpu"))
    for value in result.values.values():
        assert value.pop("seconds") >= 0
        assert value.pop("peak_memory_mb") > 0
    return result


def bound(context: GenerationContext) -> GenerationContext:
    """Give the context's text encoder six words."""
    diffusion = FakeDiffusion(num_tokens=7)  # and its first token
    diffusion.text_budget = SIX_WORDS
    return replace(context, diffusion=LazyModel("fake-1", lambda: diffusion), budget=LazyModel("", lambda: SIX_WORDS))
