"""Items of your own: image files in `data/extra/`, each with an optional `<name>.txt` (in any case) that says what it shows.

They are stored like the data set's own images; a file that breaks the image policy is missing, with the reason. Each item
takes one place in one user's history, so that it goes through the whole chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.data.dataset import MissingImage
from pipeline.data.encodings import read_short_text
from pipeline.data.items import ItemRows
from pipeline.data.picture_names import SUFFIXES, fold_name, is_companion
from pipeline.data.problems import DataError
from pipeline.data.stored_images import ImageFormat, store_images
from pipeline.data.values import normalise_name
from pipeline.data.wording import read_file_name

MAX_TEXT_BYTES = 10_000
CATEGORY = "extra"


def add_extra_items(folder: Path, items: ItemRows, *, image_size: int, image_format: ImageFormat) -> tuple[list[str], list[MissingImage]]:
    """Add the items of `folder` in file-name order; return their ids, and the files that are no usable images."""
    if not folder.is_dir():
        return [], []
    files = sorted(path for path in folder.iterdir() if path.is_file() and not is_companion(path.name))
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    refuse_links_outside(folder, [*paths, *filter(None, map(find_text, paths))])
    added, missing = [], []
    for path, outcome in zip(paths, store_images(paths, image_size=image_size, image_format=image_format), strict=True):
        item_id, text = name_item(path), read_text(path)
        if isinstance(outcome, bytes):
            items.add(item_id, outcome, text=text, category=CATEGORY)
            added.append(item_id)
        else:
            missing.append(MissingImage(item_id, text, str(path), "", "", outcome))
    return added, missing


def is_extra(item_id: str) -> bool:
    """Say whether an item is one of `data/extra/`."""
    return item_id.startswith("extra-")


def refuse_links_outside(folder: Path, paths: Sequence[Path]) -> None:
    """Raise DataError for a link to a file elsewhere: who fills the folder must not choose which other files of this machine are read."""
    base = folder.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(base):
            raise DataError(f"{path} is a link that leads outside of {folder}; put the file itself there.")


def name_item(path: Path) -> str:
    """Return the id of an image file's item: its name with composed letters (NFC), bytes that are no text as escapes."""
    return f"extra-{normalise_name(path.name).encode('utf-8', errors='backslashreplace').decode()}"


def find_text(path: Path) -> Path | None:
    """Return the text file beside an image, also where its name is in another case or of decomposed letters."""
    wanted = path.with_suffix(".txt")
    if wanted.is_file():
        return wanted
    return next((other for other in sorted(path.parent.iterdir()) if fold_name(other.name) == fold_name(wanted.name) and other.is_file()), None)


def read_text(path: Path) -> str:
    """Return what the text file beside an image says (nothing, if it is empty or says "none"), or else what its name says, if anything."""
    if text_path := find_text(path):
        return read_short_text(text_path, max_bytes=MAX_TEXT_BYTES)
    return read_file_name(name_item(path).removeprefix("extra-").removesuffix(path.suffix))


def place_in_histories(cases: list[dict[str, Any]], extras: Sequence[str]) -> None:
    """Let each extra item replace one history item of one case; which one depends on the item's name alone."""
    for extra in extras:
        digest = hashlib.sha256(extra.encode()).digest()
        case = cases[int.from_bytes(digest[:8], "big") % len(cases)]
        free = [i for i, item_id in enumerate(case["history"]) if not is_extra(item_id)]
        if free:
            case["history"][free[digest[8] % len(free)]] = extra
