"""Say what each item's image shows: cap_i of eq. 2, one caption per item.

Departures: (1) an image that breaks the image policy and a caption without a word are rejected with the reason, never dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.columns import map_columns
from pipeline.config import Count, RowMapConfig, config_dataclass
from pipeline.data.images import ImageReader, decode_batch
from pipeline.ledger import open_ledger
from pipeline.models.lazy import LazyModel
from pipeline.rows import Columns, MapResult, Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.captioner import Captioner

COLUMNS = pa.schema([pa.field("caption", pa.string())])
EMPTY_CAPTION = "The caption is empty."


@config_dataclass
class CaptioningConfig(RowMapConfig):
    """How the captioner is asked."""

    prompt: str | None
    num_beams: Count
    max_new_tokens: Count


@contextmanager
def caption_items(items: pa.Table, images: ImageReader, config: CaptioningConfig, *, captioner: LazyModel[Captioner]) -> Iterator[MapResult]:
    """Caption every item, whose image is read when its turn comes; the captions can be read until the context ends."""
    decides = (config.prompt, config.num_beams, config.max_new_tokens, config.batch_size, captioner.revision)

    def compute(batch: list[Row]) -> Columns:
        keys = [row.payload for row in batch]
        encoded = images.read(keys)
        return caption_batch(captioner.model, [encoded[key] for key in keys], config)

    with open_ledger("captioning", COLUMNS, code=[caption_batch, images], inputs=decides) as ledger:
        yield map_rows(ledger, build_rows(items), compute, batch_size=config.batch_size, label="captioning", prepare=lambda: captioner.model)


def build_rows(items: pa.Table) -> list[Row]:
    """Build one unit of work per item: identified by its image's digest alone, so that equal images are captioned once."""
    return [Row(item_id, digest, item_id) for item_id, digest in map_columns(items, "item_id", "image_sha256").items()]


def caption_batch(captioner: Captioner, batch: Sequence[bytes], config: CaptioningConfig) -> Columns:
    """Caption one batch of encoded images; the broken ones are captioned as white placeholders and then rejected."""
    images, reasons = decode_batch(batch)
    captions = captioner.caption(images, prompt=config.prompt, num_beams=config.num_beams, max_new_tokens=config.max_new_tokens)
    reasons |= {i: EMPTY_CAPTION for i, caption in enumerate(captions) if not caption and i not in reasons}
    return Columns({"caption": captions}, reasons)
