"""The one drawing loop of all methods: cases become rows of the ledger, a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from PIL import Image

from pipeline.data.cases import Case
from pipeline.data.images import encode_png
from pipeline.generation.studio import Drawing, Method
from pipeline.ledger import MapResult, Rejection, Row, map_rows, open_ledger
from pipeline.params import hash_params

COLUMNS = pa.schema([pa.field("image", pa.binary())])
VERSION = 1  # raise it when the same description would give another image


def draw_cases(method: Method, name: str, cases: Sequence[Case], *, batch_size: int) -> MapResult:
    """Draw every case that the ledger lacks; the values hold PNG bytes under `image`."""
    rows = [Row(key=case.case_id, inputs=describe_row(method, case), payload=case) for case in cases]
    fingerprint = hash_params("generation", VERSION, name, method.identity)
    with open_ledger(f"generation@{name}", fingerprint, COLUMNS) as ledger:
        return map_rows(ledger, rows, lambda batch: compute_rows(method, batch), batch_size=batch_size, label=f"generation@{name}")


def describe_row(method: Method, case: Case) -> object:
    """Return the row's inputs; a case that cannot be drawn is identified by its reason."""
    description = method.describe(case)
    return {"rejected": description.reason, "case_id": case.case_id} if isinstance(description, Rejection) else description


def compute_rows(method: Method, rows: Sequence[Row]) -> list[dict[str, bytes] | Rejection]:
    """Draw a batch; the place of a case that cannot be drawn is taken by another, so that the batch keeps its size."""
    described = [method.describe(row.payload) for row in rows]
    drawable = [row.payload for row, description in zip(rows, described, strict=True) if not isinstance(description, Rejection)]
    if not drawable:
        return list(described)
    filled = [drawable[0] if isinstance(description, Rejection) else row.payload for row, description in zip(rows, described, strict=True)]
    drawings = method.draw(filled)
    assert len(drawings) == len(rows), "a method returns one drawing a case"
    return [
        description if isinstance(description, Rejection) else encode_drawing(drawing)
        for description, drawing in zip(described, drawings, strict=True)
    ]


def encode_drawing(drawing: Drawing) -> dict[str, bytes] | Rejection:
    """Return the image as PNG bytes, or the reason why there is none."""
    return drawing if isinstance(drawing, Rejection) else {"image": encode_png(Image.fromarray(drawing))}


def build_generated(name: str, result: MapResult) -> list[dict[str, object]]:
    """Return the rows of the generated table."""
    return [{"method": name, "case_id": case_id, "image": {"bytes": value["image"], "path": None}} for case_id, value in result.values.items()]
