"""The README's picture: a column for each method that was asked for. Run: python -m pytest tests/pipeline/report/test_picture.py"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.artifacts import write_table
from pipeline.data.images import encode_png
from pipeline.report.picture import METHODS, NUM_HISTORY, TILE, draw_picture, locate_tile
from pipeline.schemas import CASES, GENERATED, ITEMS, RETRIEVED

COLOURS = {"sd": "red", "ragar": "blue"}


def make_image(colour: str) -> dict[str, object]:
    return {"bytes": encode_png(Image.new("RGB", (8, 8), colour)), "path": None}


def write_run(data: Path, *, truth: str | None) -> Path:
    names = ("liked", "other", "reference", "truth")
    items = [{"item_id": name, "image": make_image("green"), "text": name, "category": "a", "image_sha256": "0"} for name in names]
    case = {"case_id": "c1", "user_id": "u1", "split": "test", "history": ["other", "liked"], "reference_id": "reference", "truth_id": truth}
    retrieved = [{"case_id": "c1", "rank": 0, "item_id": "liked", "similarity": 1.0, "weight": 1.0}]
    tables = [("dataset/items", items, ITEMS), ("dataset/cases", [case], CASES), ("retrieval/retrieved", retrieved, RETRIEVED)]
    for method in METHODS:
        rows = [{"method": method, "case_id": "c1", "image": make_image(COLOURS[method])}] if method in COLOURS else []
        tables.append((f"generation/{method}/generated", rows, GENERATED))
    for name, rows, table in tables:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        write_table(data / f"{name}.parquet", rows, table, provenance={})
    return data


def test_methods_that_were_not_asked_for_have_no_column(tmp_path: Path) -> None:
    picture = draw_picture(write_run(tmp_path, truth="truth"))
    centres = [locate_tile(column, 0) for column in range(NUM_HISTORY + 2 + len(COLOURS))]
    seen = [picture.getpixel((x + TILE // 2, y + TILE // 2)) for x, y in centres]
    green, white = (0, 128, 0), (255, 255, 255)
    assert seen == [green, green, *[white] * (NUM_HISTORY - 2), green, green, (255, 0, 0), (0, 0, 255)]
    assert picture.width < locate_tile(NUM_HISTORY + 2 + len(COLOURS), 0)[0] + TILE


def test_a_run_without_a_case_to_show_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no case with a truth that all its methods have drawn \(sd, ragar\), so there is nothing to show"):
        draw_picture(write_run(tmp_path, truth=None))
