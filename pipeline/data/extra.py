"""Items of your own: image files in `data/extra/`, each with an optional `<name>.txt` that says what it shows.

They are stored like the data set's own images; a file that breaks the image policy is missing, with the reason. Each item
takes one place in one user's history, so that it goes through the whole chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.data.dataset import MissingImage
from pipeline.data.items import ItemRows
from pipeline.data.stored_images import ImageFormat, store_images

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
MAX_TEXT_BYTES = 10_000
CATEGORY = "extra"


def add_extra_items(folder: Path, items: ItemRows, *, image_size: int, image_format: ImageFormat) -> tuple[list[str], list[MissingImage]]:
    """Add the items of `folder` in file-name order; return their ids, and the files that are no usable images."""
    if not folder.is_dir():
        return [], []
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    paths = [path for path in paths if not path.name.startswith(".")]  # `._cat.png` is what macOS leaves beside a picture
    added, missing = [], []
    for path, outcome in zip(paths, store_images(paths, image_size=image_size, image_format=image_format), strict=True):
        item_id, text = name_item(path), read_text(path)
        if isinstance(outcome, bytes):
            items.add(item_id, outcome, text=text, category=CATEGORY)
            added.append(item_id)
        else:
            missing.append(MissingImage(item_id, text, str(path), "", "", outcome))
    return added, missing


def name_item(path: Path) -> str:
    """Return the id of an image file's item."""
    return f"extra-{path.name}"


def read_text(path: Path) -> str:
    """Return what the text file beside an image says, or else what its name says."""
    text_path = path.with_suffix(".txt")
    if not text_path.is_file():
        return path.stem.replace("_", " ").replace("-", " ")
    with text_path.open("rb") as file:
        return file.read(MAX_TEXT_BYTES).decode("utf-8", errors="replace").strip()


def place_in_histories(cases: list[dict[str, Any]], extras: Sequence[str]) -> None:
    """Let each extra item replace one history item of one case; which one depends on the item's name alone."""
    for extra in extras:
        digest = hashlib.sha256(extra.encode()).digest()
        case = cases[int.from_bytes(digest[:8], "big") % len(cases)]
        free = [i for i, item_id in enumerate(case["history"]) if not item_id.startswith("extra-")]
        if free:
            case["history"][free[digest[8] % len(free)]] = extra
