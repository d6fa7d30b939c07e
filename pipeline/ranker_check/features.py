"""The items' image vectors by the evaluation ranker's own encoder, computed once and kept.

They are no columns of the stage `embedding`, whose rows depend on captions and on params of the method.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.columns import map_columns
from pipeline.data.images import ImageReader, decode_batch
from pipeline.ledger import open_ledger
from pipeline.models.lazy import LazyModel
from pipeline.rows import Columns, MapResult, Row, map_rows
from pipeline.vectors import find_faults

if TYPE_CHECKING:
    from pipeline.models.encoders import VisualEncoder

LEDGER, LABEL = "ranker_check_features", "ranker_check, images"
COLUMN = "image"
COLUMNS = pa.schema([pa.field(COLUMN, pa.binary())])  # little-endian float32


@contextmanager
def encode_items(items: pa.Table, images: ImageReader, *, encoder: LazyModel[VisualEncoder], batch_size: int) -> Iterator[MapResult]:
    """Encode every item's image; one that breaks the image policy is rejected. The vectors can be read until the context ends."""
    rows = [Row(item_id, digest) for item_id, digest in map_columns(items, "item_id", "image_sha256").items()]

    def compute(batch: list[Row]) -> Columns:
        encoded = images.read([row.key for row in batch])
        decoded, reasons = decode_batch([encoded[row.key] for row in batch])
        vectors = {COLUMN: encoder.model.encode_images(decoded).numpy()}
        return Columns(vectors, find_faults(vectors) | reasons)

    with open_ledger(LEDGER, COLUMNS, code=[encode_items, images], inputs=(batch_size, encoder.revision)) as ledger:
        yield map_rows(ledger, rows, compute, batch_size=batch_size, label=LABEL, prepare=lambda: encoder.model)


def read_features(result: MapResult) -> tuple[list[str], np.ndarray]:
    """Return the encoded items' ids, ascending, and their (N, F) float32 vectors; ValueError if there is none."""
    if not result.keys:
        raise ValueError(f"No item's image could be encoded; the first reason: {next(iter(result.rejected.values()), 'there are no items.')}")
    vectors = [np.frombuffer(value, dtype="<f4") for table in result.iterate("item_id") for value in table[COLUMN].to_pylist()]
    return [str(key) for key in result.keys], np.stack(vectors)
