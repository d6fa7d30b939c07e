"""What an item is called."""

from __future__ import annotations

import pyarrow as pa


def read_item_texts(items: pa.Table, captions: pa.Table | None) -> dict[str, str]:
    """Return each item's own text, or its caption where it has none; items with neither are left out."""
    caption_of = dict(zip(captions["item_id"].to_pylist(), captions["caption"].to_pylist(), strict=True)) if captions is not None else {}
    texts = {}
    for item_id, text in zip(items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True):
        if called := (text or "").strip() or (caption_of.get(item_id) or "").strip():
            texts[item_id] = called
    return texts
