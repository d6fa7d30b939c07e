"""Latents of item images. Run: python -m pytest tests/pipeline/test_latents.py"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import latents
from pipeline.artifacts import write_table
from pipeline.latents import NOT_FINITE, compute_latents
from pipeline.models.fake import FakeDiffusion
from pipeline.models.lazy import LazyModel
from pipeline.schemas import ITEMS
from tests.broken_items import build_items


def test_an_image_whose_latent_overflows_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = build_items(3, odd=False)
    write_table(tmp_path / "items.parquet", items, ITEMS, provenance={})
    ids = items["item_id"].to_pylist()
    encoded = torch.tensor([1.0, 70_000.0, 3.0, 3.0])[:, None, None, None].expand(-1, 4, 2, 2)  # float16 ends at 65,504
    monkeypatch.setattr(latents, "encode_images", lambda images, diffusion: encoded[: len(images)])
    found, rejected = compute_latents(tmp_path / "items.parquet", ids, LazyModel("fake", FakeDiffusion))
    assert rejected == {ids[1]: NOT_FINITE}
    assert {item_id: latent.unique().tolist() for item_id, latent in found.items()} == {ids[0]: [1.0], ids[2]: [3.0]}
