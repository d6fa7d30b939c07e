"""Items of your own: image files in `data/extra/`, each with an optional `<name>.txt` that says what it shows.

The bytes are taken as they are (a file that cannot be decoded is rejected by the stages that decode it, with the reason),
and each item takes one place in one user's history, so that it goes through the whole chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.data.images import MAX_BYTES
from pipeline.data.items import ItemRows
from pipeline.data.problems import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
MAX_TEXT_BYTES = 10_000
CATEGORY = "extra"


def add_extra_items(folder: Path, items: ItemRows) -> list[str]:
    """Add the items of `folder` in file-name order and return their ids; of an oversized file the first MAX_BYTES + 1 bytes refuse it."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    refuse_links_outside(folder, [*paths, *(path.with_suffix(".txt") for path in paths)])
    for path in paths:
        with path.open("rb") as file:
            items.add(name_item(path), file.read(MAX_BYTES + 1), text=read_text(path), category=CATEGORY)
    return [name_item(path) for path in paths]


def refuse_links_outside(folder: Path, paths: Sequence[Path]) -> None:
    """Raise DataError for a link to a file elsewhere: who fills the folder must not choose which other files of this machine are read."""
    base = folder.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(base):
            raise DataError(f"{path} is a link that leads outside of {folder}; put the file itself there.")


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
