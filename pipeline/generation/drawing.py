"""The one drawing loop of all methods: cases become rows of the ledger, a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from PIL import Image

from pipeline import cost
from pipeline.cost import measure_rows
from pipeline.data.cases import Case
from pipeline.data.images import encode_png
from pipeline.generation.context import AnnotatedImage, Drawing, Method
from pipeline.ledger import open_ledger
from pipeline.models.lazy import LazyModel
from pipeline.rows import MapResult, Rejection, Row, map_rows

if TYPE_CHECKING:
    import torch

FACTS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))
COLUMNS = pa.schema([pa.field("image", pa.binary()), pa.field("facts", FACTS), *cost.COLUMNS])


def draw_cases(method: Method, name: str, cases: Sequence[Case], *, batch_size: int, device: torch.device) -> MapResult:
    """Draw every case that the method's ledger lacks; a value holds PNG bytes under `image`, the method's own figures under `facts`, and the cost."""
    rows = [Row(key=case.case_id, inputs=describe_row(method, case), payload=case) for case in cases]
    compute = measure_rows(lambda batch: compute_rows(method, batch), device)
    with open_ledger(f"generation@{method.ledger}", COLUMNS, code=[compute_rows, method, *list_loaders(method)], inputs=method.identity) as ledger:
        return map_rows(ledger, rows, compute, batch_size=batch_size, label=f"generation@{name}").load()


def list_loaders(method: Method) -> list[Callable[[], Any]]:
    """Return what loads the models of a method and of its context: how a model is put together decides an image as well."""
    models = [method.context.diffusion, *vars(method).values()]
    return [model.load for model in models if isinstance(model, LazyModel)]


def describe_row(method: Method, case: Case) -> object:
    """Return the row's inputs; a case that cannot be drawn is identified by its reason."""
    description = method.describe(case)
    return {"rejected": description.reason, "case_id": case.case_id} if isinstance(description, Rejection) else description


def compute_rows(method: Method, rows: Sequence[Row]) -> list[dict[str, Any] | Rejection]:
    """Draw a batch; the place of a case that cannot be drawn is taken by another, so that the batch keeps its size."""
    described = [method.describe(row.payload) for row in rows]
    drawable = [row.payload for row, description in zip(rows, described, strict=True) if not isinstance(description, Rejection)]
    if not drawable:
        return list(described)
    filled = [drawable[0] if isinstance(description, Rejection) else row.payload for row, description in zip(rows, described, strict=True)]
    drawings = method.draw(filled)
    assert len(drawings) == len(rows), "a method returns one drawing per case"
    return [
        description if isinstance(description, Rejection) else encode_drawing(drawing)
        for description, drawing in zip(described, drawings, strict=True)
    ]


def encode_drawing(drawing: Drawing) -> dict[str, Any] | Rejection:
    """Return the image as PNG bytes and the figures about it, or the reason why there is none."""
    if isinstance(drawing, Rejection):
        return drawing
    image, facts = (drawing.image, drawing.facts) if isinstance(drawing, AnnotatedImage) else (drawing, {})
    return {"image": encode_png(Image.fromarray(image)), "facts": [{"name": name, "value": value} for name, value in facts.items()]}
