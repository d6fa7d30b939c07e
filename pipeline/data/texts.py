"""What an item is called."""

from __future__ import annotations

import pyarrow as pa

from pipeline.columns import map_columns


def read_item_texts(items: pa.Table, captions: pa.Table | None) -> dict[str, str]:
    """Return each item's own text, or its caption where it has none; items with neither are left out."""
    caption_of = map_columns(captions, "item_id", "caption") if captions is not None else {}
    texts = {}
    for item_id, text in map_columns(items, "item_id", "text").items():
        if called := (text or "").strip() or (caption_of.get(item_id) or "").strip():
            texts[item_id] = called
    return texts
