"""Latents of item images, encoded once for every stage that trains against the diffusion model's own objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.data.images import decode_batch
from pipeline.ledger import open_ledger
from pipeline.models.denoising import encode_images
from pipeline.rows import Rejection, Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion

LEDGER = "latents"
COLUMNS = pa.schema([pa.field("latent", pa.binary()), pa.field("shape", pa.list_(pa.int32()))])
BATCH_SIZE = 4  # images a forward pass; at 512 px each takes 0.75 GB


def compute_latents(
    items: pa.Table, item_ids: Sequence[str], *, load_diffusion: Callable[[], Diffusion], revision: str
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return latents (C, h, w) by item_id, stored as float16, and why the others have none; the model is loaded only if one is missing."""
    rows_of = {item_id: row for row, item_id in enumerate(items["item_id"].to_pylist())}
    digests = items["image_sha256"].to_pylist()
    wanted = sorted(set(item_ids))
    unknown = {item_id: "It is not among the items." for item_id in wanted if item_id not in rows_of}
    rows = [Row(item_id, digests[rows_of[item_id]], rows_of[item_id]) for item_id in wanted if item_id in rows_of]

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        images, reasons = decode_batch([items["image"][row.payload].as_py()["bytes"] or b"" for row in batch])
        latent_BChw = encode_images(images, load_diffusion()).half()
        values = [{"latent": latent_Chw.numpy().tobytes(), "shape": list(latent_Chw.shape)} for latent_Chw in latent_BChw]
        return [Rejection(reasons[index]) if index in reasons else value for index, value in enumerate(values)]

    with open_ledger(LEDGER, COLUMNS, code=[encode_images], inputs=(revision, BATCH_SIZE)) as ledger:
        result = map_rows(ledger, rows, compute, batch_size=BATCH_SIZE, label=LEDGER)
    found = {str(item_id): read_latent(value) for item_id, value in result.values.items()}
    return found, {**unknown, **{str(item_id): reason for item_id, reason in result.rejected.items()}}


def read_latent(value: dict[str, Any]) -> torch.Tensor:
    """Return a stored latent (C, h, w) as float32."""
    return torch.from_numpy(np.frombuffer(value["latent"], dtype=np.float16).astype(np.float32)).reshape(value["shape"])
