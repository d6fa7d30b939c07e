"""One row of vectors an item: semantic (eq. 2), visual (eq. 4) and CLIP image, each L2-normalised; and the second ranker's, apart.

Departures: (1) an item without a caption is encoded by its own text; without either it is rejected, and so is an item whose
image breaks the image policy. (2) `caption+text` appends the item's text to the caption, which helps where titles say more
than pictures; `text` is the item's text alone, which says nothing of its look: items that merely look like the reference are not
taken for related; `text+category` appends the catalogue's category, as the text features of MICRO's data do. The paper's formula
is `caption`. (3) Where Enc^vis is the CLIP itself, it runs once and fills both columns.
(4) The paper has no second ranker. Its vectors are a table of their own, so that another check encoder changes no other table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.config import RowMapConfig, config_dataclass
from pipeline.data.images import decode_batch
from pipeline.ledger import open_ledger
from pipeline.rows import MapResult, Rejection, Row, map_rows
from pipeline.schemas import CHECK_EMBEDDINGS, EMBEDDINGS, Table

if TYPE_CHECKING:
    from pipeline.models.encoders import ClipEncoder, VisualEncoder

VECTORS = ("semantic", "visual", "clip_image")
CHECK = "check_visual"
COLUMNS = pa.schema([pa.field(name, pa.binary()) for name in VECTORS])  # little-endian float32: compact in memory and exact
CHECK_COLUMNS = pa.schema([pa.field(CHECK, pa.binary())])
NO_TEXT = "The item has neither a caption nor a text."


@config_dataclass
class EmbeddingConfig(RowMapConfig):
    """What is encoded, and in batches of which size."""

    semantic_text: Literal["caption", "caption+text", "text", "text+category"]


@dataclass(frozen=True)
class Encoders:
    """The loaded models; `visual` is `clip` itself where both roles name the same model."""

    clip: ClipEncoder
    visual: VisualEncoder


def embed_items(items: pa.Table, captions: pa.Table, config: EmbeddingConfig, *, load: Callable[[], Encoders], models: Sequence[str]) -> MapResult:
    """Embed every item; `load` is called only if there is work left, and `models` (revisions, dtype) names what it loads."""
    rows = build_rows(items, captions, config)
    encoders: Encoders | None = None

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        nonlocal encoders
        encoders = encoders or load()
        return embed_batch(encoders, [row.payload for row in batch])

    with open_ledger("embedding", COLUMNS, code=[embed_batch], inputs=(config.batch_size, list(models))) as ledger:
        return map_rows(ledger, rows, compute, batch_size=config.batch_size, label="embedding")


def embed_check(items: pa.Table, config: EmbeddingConfig, *, load: Callable[[], VisualEncoder], model: Sequence[str]) -> MapResult:
    """Embed every item's image with the second ranker's encoder, through a ledger of its own."""
    rows = [
        Row(key=item_id, inputs=image["bytes"] or b"", payload=image["bytes"] or b"")
        for item_id, image in zip(items["item_id"].to_pylist(), items["image"].to_pylist(), strict=True)
    ]
    encoder: VisualEncoder | None = None

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        nonlocal encoder
        encoder = encoder or load()
        images, reasons = decode_batch([row.payload for row in batch])
        outcomes: list[dict[str, Any] | Rejection] = []
        for i, vector in enumerate(encoder.encode_images(images).numpy()):
            reason = reasons.get(i) or check_vectors({CHECK: vector})
            outcomes.append(Rejection(reason) if reason else {CHECK: vector.astype("<f4").tobytes()})
        return outcomes

    with open_ledger("embedding-check", CHECK_COLUMNS, code=[embed_check], inputs=(config.batch_size, list(model))) as ledger:
        return map_rows(ledger, rows, compute, batch_size=config.batch_size, label="embedding, second encoder")


def build_rows(items: pa.Table, captions: pa.Table, config: EmbeddingConfig) -> list[Row]:
    """Build one unit of work an item, identified by its image's bytes and the text that is encoded."""
    caption_of = dict(zip(captions["item_id"].to_pylist(), captions["caption"].to_pylist(), strict=True))
    rows = []
    columns = (items[name].to_pylist() for name in ("item_id", "image", "text", "category"))
    for item_id, image, text, category in zip(*columns, strict=True):
        payload = (image["bytes"] or b"", build_semantic_text(caption_of.get(item_id, ""), text, config.semantic_text, category=category or ""))
        rows.append(Row(key=item_id, inputs=payload, payload=payload))
    return rows


def build_semantic_text(caption: str, text: str, kind: str, *, category: str = "") -> str:
    """Return the text that stands for an item in eq. 2, in one line; empty if the item has neither caption nor text."""
    caption, text, category = (" ".join(part.split()) for part in (caption, text, category))
    if kind == "text+category" and text and category:
        return f"{text}, {category}"
    if kind == "caption+text" and caption and text:
        return f"{caption.rstrip('.')}. {text}"
    return text or caption if kind in ("text", "text+category") else caption or text


def embed_batch(encoders: Encoders, batch: Sequence[tuple[bytes, str]]) -> list[dict[str, Any] | Rejection]:
    """Embed one batch of (encoded image, text); each image is decoded once, broken rows are encoded as blanks and then rejected."""
    images, reasons = decode_batch([data for data, _ in batch])
    semantic_BD = encoders.clip.encode_texts([text for _, text in batch]).numpy()
    clip_BD = encoders.clip.encode_images(images).numpy()
    visual_BD = clip_BD if encoders.visual is encoders.clip else encoders.visual.encode_images(images).numpy()
    outcomes: list[dict[str, Any] | Rejection] = []
    for i, (_, text) in enumerate(batch):
        vectors = dict(zip(VECTORS, (semantic_BD[i], visual_BD[i], clip_BD[i]), strict=True))
        reason = reasons.get(i) or (None if text else NO_TEXT) or check_vectors(vectors)
        packed = {name: vector.astype("<f4").tobytes() for name, vector in vectors.items()}
        outcomes.append(Rejection(reason) if reason else packed)
    return outcomes


def check_vectors(vectors: dict[str, np.ndarray]) -> str | None:
    """Say which vector is not a finite unit vector, if one is not (half formats can overflow)."""
    for name, vector in vectors.items():
        if not abs(float(np.linalg.norm(vector)) - 1.0) < 1e-3:  # also true of NaN; float32 rows of 1024 are off by < 1e-5
            return f"The {name} vector is not finite or has no length."
    return None


def build_embeddings(result: MapResult) -> pa.Table:
    """Build the embeddings table of a result's rows, in key order; ValueError if every item was rejected."""
    return _build_vectors(result, EMBEDDINGS)


def build_check_embeddings(result: MapResult) -> pa.Table:
    """Build the second ranker's table."""
    return _build_vectors(result, CHECK_EMBEDDINGS)


def _build_vectors(result: MapResult, table: Table) -> pa.Table:
    if not result.values:
        first = next(iter(result.rejected.values()), "there are no items.")
        raise ValueError(f"No item could be embedded; the first reason: {first}")
    keys = sorted(result.values)
    columns: list[pa.Array] = [pa.array(keys, pa.string())]
    dims = {}
    for name in (name for name in table.columns if name != "item_id"):
        matrix_ND = np.stack([np.frombuffer(result.values[key][name], dtype="<f4") for key in keys])
        dims[name] = matrix_ND.shape[1]
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(matrix_ND.ravel()), dims[name]))
    return pa.Table.from_arrays(columns, schema=table.build_schema(dims))
