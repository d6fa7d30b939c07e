"""The items of a data set while it is built: memory holds everything but their images, which wait in a temporary file."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.work import work_dir

MEMORY_BYTES = 64 * 2**20  # images of a small data set need no file


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item, and where in the temporary file its image is."""

    text: str
    category: str
    image_sha256: str
    start: int
    size: int


class ItemRows(Mapping[str, dict[str, Any]]):
    """Rows of the items table by item_id, in the order in which they were added; a row's image is read when the row is."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=work_dir())  # not in /tmp, which may be in memory  # noqa: SIM115
        self._stored: dict[str, StoredItem] = {}

    def add(self, item_id: str, image: bytes, *, text: str, category: str) -> None:
        """Add an item; the image bytes are stored as they are, decodable or not. ValueError if the id is known."""
        if item_id in self._stored:
            raise ValueError(f"the item {item_id!r} is there twice.")
        try:
            start = self._file.seek(0, 2)
            if start + len(image) > MEMORY_BYTES:  # now they need their file
                work_dir().mkdir(parents=True, exist_ok=True)
            self._file.write(image)
        except OSError as error:
            raise ValueError(f"{work_dir()} cannot take the images ({error.strerror}).") from error
        self._stored[item_id] = StoredItem(text, category, hashlib.sha256(image).hexdigest(), start, len(image))

    def select(self, item_ids: Collection[str]) -> ItemRows:
        """Return some of the items, in the same order."""
        chosen = ItemRows()
        chosen._file = self._file
        chosen._stored = {item_id: stored for item_id, stored in self._stored.items() if item_id in item_ids}
        return chosen

    def list_digests(self) -> dict[str, str]:
        """Return the sha256 of every item's image, without reading any."""
        return {item_id: stored.image_sha256 for item_id, stored in self._stored.items()}

    def iterate_sorted(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in ascending order of their ids."""
        for item_id in sorted(self._stored):
            yield self[item_id]

    def __getitem__(self, item_id: str) -> dict[str, Any]:
        stored = self._stored[item_id]
        self._file.seek(stored.start)
        image = self._file.read(stored.size)
        if hashlib.sha256(image).hexdigest() != stored.image_sha256:
            raise ValueError(f"the image of item {item_id!r} was damaged on the disk while the data set was built; run the stage again.")
        return {
            "item_id": item_id,
            "image": {"bytes": image, "path": None},
            "text": stored.text,
            "category": stored.category,
            "image_sha256": stored.image_sha256,
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
