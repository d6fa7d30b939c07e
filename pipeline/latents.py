"""Latents of item images, encoded once for every stage that trains against the diffusion model's own objective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.artifacts import read_table
from pipeline.columns import map_columns
from pipeline.data.images import decode_batch
from pipeline.ledger import open_ledger
from pipeline.models.denoising import encode_images
from pipeline.models.lazy import LazyModel
from pipeline.rows import Columns, Row, map_rows
from pipeline.schemas import ITEMS
from pipeline.table_images import ImageColumn

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion

LEDGER = "latents"
COLUMNS = pa.schema([pa.field("latent", pa.binary()), pa.field("shape", pa.list_(pa.int32()))])
NOT_FINITE = "Its latent is not finite: the diffusion model's image encoder overflows on it."
BATCH_SIZE = 4  # images per forward pass; at 512 px each takes 0.75 GB


def compute_latents(path: Path, item_ids: Sequence[str], diffusion: LazyModel[Diffusion]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return latents (C, h, w) by item_id, stored as float16, and why the others have none; `path` is the items table, read as far as needed.

    The model is loaded only if a latent is missing.
    """
    images = ImageColumn(path)
    digest_of = map_columns(read_table(path, ITEMS, columns=["image_sha256"]), "item_id", "image_sha256")
    wanted = sorted(set(item_ids))
    unknown = {item_id: "It is not among the items." for item_id in wanted if item_id not in digest_of}
    rows = [Row(item_id, digest_of[item_id], item_id) for item_id in wanted if item_id in digest_of]

    def compute(batch: list[Row]) -> Columns:
        encoded = images.read([row.payload for row in batch])
        decoded, reasons = decode_batch([encoded[row.payload] for row in batch])
        latent_BChw = encode_images(decoded, diffusion.model).half().numpy()
        overflown = {i: NOT_FINITE for i in range(len(batch)) if not np.isfinite(latent_BChw[i]).all()}
        return Columns({"latent": latent_BChw.reshape(len(batch), -1), "shape": [list(latent_BChw.shape[1:])] * len(batch)}, overflown | reasons)

    with open_ledger(LEDGER, COLUMNS, code=[compute, diffusion.load], inputs=(diffusion.revision, BATCH_SIZE)) as ledger:
        result = map_rows(ledger, rows, compute, batch_size=BATCH_SIZE, label=LEDGER)
        found = {str(item_id): read_latent(value) for item_id, value in result.values.items()}
    return found, {**unknown, **{str(item_id): reason for item_id, reason in result.rejected.items()}}


def read_latent(value: dict[str, Any]) -> torch.Tensor:
    """Return a stored latent (C, h, w) as float32."""
    return torch.from_numpy(np.frombuffer(value["latent"], dtype=np.float16).astype(np.float32)).reshape(value["shape"])
