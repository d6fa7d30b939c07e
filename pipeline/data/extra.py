"""Items of your own: image files in `data/extra/`, each with an optional `<name>.txt` that says what it shows.

The bytes are taken as they are (a file that cannot be decoded is rejected by the stages that decode it, with the reason),
and each item takes one place in one user's history, so that it goes through the whole chain.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline.data.dataset import build_item
from pipeline.data.images import MAX_BYTES

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
MAX_TEXT_BYTES = 10_000
CATEGORY = "extra"


def read_extra_items(folder: Path) -> list[dict[str, Any]]:
    """Read the items of `folder` in file-name order; of an oversized file only the first MAX_BYTES + 1 bytes, enough to refuse it."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return [_read_item(path) for path in paths]


def _read_item(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    text_path = path.with_suffix(".txt")
    text = path.stem.replace("_", " ").replace("-", " ")
    if text_path.is_file():
        with text_path.open("rb") as file:
            text = file.read(MAX_TEXT_BYTES).decode("utf-8", errors="replace").strip()
    return build_item(f"extra-{path.name}", data, text=text, category=CATEGORY)


def place_in_histories(cases: list[dict[str, Any]], extras: list[dict[str, Any]]) -> None:
    """Let each extra item replace one history item of one case; which one depends on the item's name alone."""
    for extra in extras:
        digest = hashlib.sha256(extra["item_id"].encode()).digest()
        case = cases[int.from_bytes(digest[:8], "big") % len(cases)]
        free = [i for i, item_id in enumerate(case["history"]) if not item_id.startswith("extra-")]
        if free:
            case["history"][free[digest[8] % len(free)]] = extra["item_id"]
