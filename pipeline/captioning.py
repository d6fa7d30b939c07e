"""Say what each item's image shows: cap_i of eq. 2, one caption an item.

Departures: (1) an image that breaks the image policy and a caption without a word are rejected with the reason, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.config import Count, RowMapConfig, config_dataclass
from pipeline.data.images import decode_batch
from pipeline.ledger import open_ledger
from pipeline.rows import MapResult, Rejection, Row, map_rows

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


def caption_items(items: pa.Table, config: CaptioningConfig, *, load: Callable[[], Captioner], model: Sequence[str]) -> MapResult:
    """Caption every item; `load` is called only if there is work left, and `model` (revision, dtype) names what it loads."""
    decides = (config.prompt, config.num_beams, config.max_new_tokens, config.batch_size, list(model))
    rows = build_rows(items)
    captioner: Captioner | None = None

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        nonlocal captioner
        captioner = captioner or load()
        return caption_batch(captioner, [row.payload for row in batch], config)

    with open_ledger("captioning", COLUMNS, code=[caption_batch], inputs=decides) as ledger:
        return map_rows(ledger, rows, compute, batch_size=config.batch_size, label="captioning")


def build_rows(items: pa.Table) -> list[Row]:
    """Build one unit of work an item: identified by its image's bytes alone, so that equal images are captioned once."""
    images = [image["bytes"] or b"" for image in items["image"].to_pylist()]
    return [Row(key=item_id, inputs=data, payload=data) for item_id, data in zip(items["item_id"].to_pylist(), images, strict=True)]


def caption_batch(captioner: Captioner, batch: Sequence[bytes], config: CaptioningConfig) -> list[dict[str, Any] | Rejection]:
    """Caption one batch of encoded images; the broken ones are captioned as white placeholders and then rejected."""
    images, reasons = decode_batch(batch)
    captions = captioner.caption(images, prompt=config.prompt, num_beams=config.num_beams, max_new_tokens=config.max_new_tokens)
    reasons |= {i: EMPTY_CAPTION for i, caption in enumerate(captions) if not caption and i not in reasons}
    return [Rejection(reasons[i]) if i in reasons else {"caption": caption} for i, caption in enumerate(captions)]
