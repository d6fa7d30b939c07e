"""Pictures that the catalogue lacks, as items: stored as the data set stores its own, then captioned and embedded by the stages' own functions.

They go through the stages' ledgers, so that a picture is captioned and embedded once, whoever asked for it first. The table of items that
the stages' functions read is a temporary file.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.artifacts import build_provenance, check_table, read_table, write_table
from pipeline.captioning import caption_items
from pipeline.data.stored_images import store_images
from pipeline.draw.finished_run import ITEM_COLUMNS, FinishedRun
from pipeline.draw.requests import Request
from pipeline.embedding import Encoders, embed_items
from pipeline.fingerprint import compute_fingerprint
from pipeline.models.captioner import load_captioner
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import read_document, read_section
from pipeline.runtime import load_runtime, resolve_device
from pipeline.schemas import CAPTIONS, EMBEDDINGS, ITEMS
from pipeline.table_images import ImageColumn
from pipeline.work import work_dir

if TYPE_CHECKING:
    from pipeline.models.captioner import Captioner
    from pipeline.rows import MapResult

PREFIX = "new-"


@dataclass(frozen=True)
class NewItem:
    """A picture and what it shows, under an id that follows from both."""

    item_id: str
    image: bytes
    digest: str
    text: str
    category: str


@dataclass
class NewItems:
    """What the catalogue would know of the new items; those that have failed are in `reasons`."""

    found: list[NewItem]
    captions: pa.Table
    embeddings: pa.Table
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def items(self) -> pa.Table:
        """Rows of the items table without their images."""
        return build_items(self.found).select(["item_id", *ITEM_COLUMNS])

    @property
    def images(self) -> dict[str, bytes]:
        """The stored images."""
        return {item.item_id: item.image for item in self.found}


@dataclass
class ItemModels:
    """What captions and embeds, with the revisions and in the way of the stages, and loaded when there is work."""

    params: Path

    @cached_property
    def _options(self) -> dict[str, object]:
        device = resolve_device(load_runtime(self.params))
        return {"device": device, "dtype": parse_dtype(read_section(self.params, "models.dtype"), device)}

    def _name(self, *roles: str) -> str:
        revisions = [compute_model_revision(read_reference(self.params, role)) for role in roles]
        return " ".join([*revisions, read_section(self.params, "models.dtype")])

    @cached_property
    def captioner(self) -> LazyModel[Captioner]:
        """The captioner."""
        reference = read_reference(self.params, "captioner")
        return LazyModel(self._name("captioner"), lambda: load_captioner(reference, **self._options))

    @cached_property
    def encoders(self) -> LazyModel[Encoders]:
        """CLIP and the visual encoder."""
        clip, visual = read_reference(self.params, "clip"), read_reference(self.params, "visual")

        def load() -> Encoders:
            loaded = load_clip(clip, **self._options)
            return Encoders(loaded, loaded if visual == clip else load_visual(visual, **self._options))

        return LazyModel(self._name("clip", "visual"), load)


def store_pictures(requests: Sequence[Request], run: FinishedRun) -> dict[int, NewItem | str]:
    """Store the pictures of requests as the run's data set stores its own, each file once; by request number, or why that cannot be done."""
    dataset = read_document(run.params)["dataset"]
    paths = list(dict.fromkeys(request.image for request in requests if request.image is not None))
    stored = dict(zip(paths, store_images(paths, image_size=dataset["image_size"], image_format=dataset.get("image_format", "png")), strict=True))
    return {request.number: build_new_item(request, stored[request.image]) for request in requests if request.image is not None}


def build_new_item(request: Request, image: bytes | str) -> NewItem | str:
    """Return a stored picture as an item, or why it is none."""
    if isinstance(image, str):
        return f"The image {request.image.name if request.image else ''} cannot be used: {image}"
    digest = hashlib.sha256(image).hexdigest()
    name = compute_fingerprint(digest, request.text, request.category)[:16]
    return NewItem(f"{PREFIX}{name}", image, digest, request.text, request.category)


def build_items(items: Sequence[NewItem]) -> pa.Table:
    """Build rows of the items table."""
    rows = [
        {
            "item_id": item.item_id,
            "image": {"bytes": item.image, "path": None},
            "text": item.text,
            "category": item.category,
            "image_sha256": item.digest,
        }
        for item in items
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS.build_schema())


@contextmanager
def open_items(items: Sequence[NewItem]) -> Iterator[tuple[pa.Table, ImageColumn]]:
    """Write a table of items for a while, and read it as the stages do: (rows without images, reader of the images)."""
    work_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work_dir(), prefix=".draw-") as folder:
        path = Path(folder) / "items.parquet"
        write_table(path, build_items(items), ITEMS, provenance=build_provenance("draw"))
        yield read_table(path, ITEMS, columns=ITEM_COLUMNS), ImageColumn(path)


def describe_new_items(items: Sequence[NewItem], run: FinishedRun, models: ItemModels) -> NewItems:
    """Caption and embed new items; an item that cannot be is left out, with the reason."""
    unique = list({item.item_id: item for item in items}.values())
    if not unique:
        return NewItems([], run.captions.slice(0, 0), run.embeddings.slice(0, 0))
    with open_items(unique) as (table, images):
        with caption_items(table, images, run.captioning, captioner=models.captioner) as captioned:
            captions = collect(captioned, run.captions, "captions")
        with embed_items(table, images, captions, run.embedding, encoders=models.encoders) as embedded:
            embeddings = collect(embedded, run.embeddings, "embeddings")
    reasons = {**embedded.rejected, **captioned.rejected}
    return NewItems([item for item in unique if item.item_id not in reasons], captions, embeddings, reasons)


def collect(result: MapResult, like: pa.Table, name: str) -> pa.Table:
    """Return a stage's rows as a table with the columns of `like`."""
    table = {"captions": CAPTIONS, "embeddings": EMBEDDINGS}[name]
    chunks = [check_table(chunk, table, where=name).cast(like.schema) for chunk in result.iterate("item_id")] if result.keys else []
    return pa.concat_tables([like.slice(0, 0), *chunks])
