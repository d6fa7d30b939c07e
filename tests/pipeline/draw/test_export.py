"""The exported table is read as images by Hugging Face `datasets`. Run: python -m pytest tests/pipeline/draw/test_export.py"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.images import decode_drawing, encode_png
from pipeline.draw.export import write_pictures_table
from pipeline.draw.manifest import MANIFEST, build_row
from tests.pipeline.draw.toy_run import draw_disc


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = []
    for number in (1, 2):
        data = encode_png(draw_disc(50 * number))
        (tmp_path / f"{number}.png").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        rows.append(build_row(request=number, candidate=1, file=f"{number}.png", keywords=["neon"], image_sha256=digest, cs=30.5))
    write_pictures_table(tmp_path, rows)
    return tmp_path / "pictures.parquet"


def test_the_table_holds_the_files_and_the_manifest(exported: Path) -> None:
    table = pq.read_table(exported)
    assert table.column_names == ["image", *MANIFEST.columns]
    for row in table.to_pylist():
        assert row["image"] == {"bytes": (exported.parent / row["file"]).read_bytes(), "path": row["file"]}
        assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["image_sha256"]


def test_datasets_takes_the_column_for_images(exported: Path) -> None:
    """`datasets` believes the metadata where the field is the one of its own Image feature, name, type and nullability included."""
    schema = pq.read_schema(exported)
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"] == {"image": {"_type": "Image"}}
    assert schema.field("image") == pa.field("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def test_datasets_loads_images(exported: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset("parquet", data_files=str(exported), split="train", cache_dir=str(tmp_path / "cache"))
    for row in loaded:
        assert np.array_equal(np.asarray(row["image"]), np.asarray(decode_drawing((exported.parent / row["file"]).read_bytes())))


def test_the_same_rows_give_the_same_bytes(exported: Path) -> None:
    first, rows = exported.read_bytes(), pq.read_table(exported).to_pylist()
    write_pictures_table(exported.parent, [{name: value for name, value in row.items() if name != "image"} for row in rows])
    assert exported.read_bytes() == first
