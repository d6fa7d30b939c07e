"""One row of vectors per item: semantic (eq. 2), visual (eq. 4) and CLIP image, each L2-normalised.

Departures: (1) an item without a caption is encoded by its own text; without either it is rejected, and so is an item whose
image breaks the image policy. (2) `caption+text` appends the item's text to the caption, which helps where titles say more
than pictures; `text` is the item's text alone, which says nothing of its look: items that merely look like the reference are not
taken for related; `text+category` appends the catalogue's category, as the text features of MICRO's data do; codes are left out of both. The paper's
formula is `caption`. (3) Where Enc^vis is the CLIP itself, it runs once and fills both columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from pipeline.columns import map_columns
from pipeline.config import RowMapConfig, config_dataclass
from pipeline.data.images import ImageReader, decode_batch
from pipeline.data.wording import drop_codes, drop_long_codes
from pipeline.ledger import open_ledger
from pipeline.models.lazy import LazyModel
from pipeline.rows import Columns, MapResult, Row, map_rows
from pipeline.vectors import find_faults

if TYPE_CHECKING:
    from pipeline.models.encoders import ClipEncoder, VisualEncoder

VECTORS = ("semantic", "visual", "clip_image")
COLUMNS = pa.schema([pa.field(name, pa.binary()) for name in VECTORS])  # little-endian float32: compact in memory and exact
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


@contextmanager
def embed_items(
    items: pa.Table, images: ImageReader, captions: pa.Table, config: EmbeddingConfig, *, encoders: LazyModel[Encoders]
) -> Iterator[MapResult]:
    """Embed every item, whose image is read when its turn comes; the vectors can be read until the context ends."""
    rows = build_rows(items, captions, config)

    def compute(batch: list[Row]) -> Columns:
        encoded = images.read([row.key for row in batch])
        return embed_batch(encoders.model, [(encoded[row.key], *row.payload) for row in batch])

    with open_ledger("embedding", COLUMNS, code=[embed_batch, images], inputs=(config.batch_size, encoders.revision)) as ledger:
        yield map_rows(ledger, rows, compute, batch_size=config.batch_size, label="embedding", prepare=lambda: encoders.model)


def build_rows(items: pa.Table, captions: pa.Table, config: EmbeddingConfig) -> list[Row]:
    """Build one unit of work per item, identified by its image's digest and the text that is encoded."""
    caption_of = map_columns(captions, "item_id", "caption")
    rows = []
    columns = (items[name].to_pylist() for name in ("item_id", "image_sha256", "text", "category"))
    for item_id, digest, text, category in zip(*columns, strict=True):
        semantic_text = build_semantic_text(caption_of.get(item_id, ""), text, config.semantic_text, category=category or "")
        title = " ".join(text.split()) if config.semantic_text == "text+category" else ""  # gives way to the category
        rows.append(Row(item_id, (digest, semantic_text), (semantic_text, title)))
    return rows


def build_semantic_text(caption: str, text: str, kind: str, *, category: str = "") -> str:
    """Return the text that stands for an item in eq. 2, in one line; empty if the item has neither caption nor text."""
    caption, text, category = (" ".join(part.split()) for part in (caption, drop_long_codes(text), drop_codes(category)))
    if kind == "text+category":
        return ", ".join(filter(None, [text or caption, category if text or caption else ""]))
    if kind == "caption+text" and caption and text:
        return f"{caption.rstrip('.')}. {text}"
    return text or caption if kind == "text" else caption or text


def embed_batch(encoders: Encoders, batch: Sequence[tuple[bytes, str, str]]) -> Columns:
    """Embed one batch of (encoded image, text, the title that it begins with); a title too long for the encoder is shortened.

    Each image is decoded once; broken rows are encoded as blanks and then rejected.
    """
    images, reasons = decode_batch([data for data, _, _ in batch])
    fitted = [(data, encoders.clip.text_budget.fit_beginning(text, title).text) for data, text, title in batch]
    semantic_BD = encoders.clip.encode_texts([text for _, text in fitted]).numpy()
    clip_BD = encoders.clip.encode_images(images).numpy()
    visual_BD = clip_BD if encoders.visual is encoders.clip else encoders.visual.encode_images(images).numpy()
    vectors = dict(zip(VECTORS, (semantic_BD, visual_BD, clip_BD), strict=True))
    wordless = {i: NO_TEXT for i, (_, text, _) in enumerate(batch) if not text}
    return Columns(vectors, find_faults(vectors) | wordless | reasons)


def iterate_vectors(result: MapResult) -> Iterator[pa.Table]:
    """Yield the rows of the table of vectors; ValueError if every item was rejected."""
    if not result.keys:
        first = next(iter(result.rejected.values()), "there are no items.")
        raise ValueError(f"No item could be embedded; the first reason: {first}")
    return result.iterate("item_id")
