"""Single images out of large tables. Run: python -m pytest tests/pipeline/test_table_images.py -q"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.schemas import IMAGE
from pipeline.table_images import CHUNK_ROWS, ImageColumn


def make_image(row: int) -> bytes:
    return f"image {row} ".encode() * (row % 7 + 1)


def write_images(
    path: Path, keys: list[str | None], *, rows_per_group: int = 1000, key: str = "item_id", images: list | None = None, **options
) -> Path:
    images = [{"bytes": make_image(row), "path": None} for row in range(len(keys))] if images is None else images
    table = pa.table({key: pa.array(keys, pa.string()), "image": pa.array(images, IMAGE), "text": pa.array(["x"] * len(keys), pa.string())})
    pq.write_table(table, path, row_group_size=rows_per_group, write_page_checksum=True, **options)
    return path


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of row groups that were begun."""
    begun: list[int] = []
    plain = pq.ParquetFile.iter_batches

    def note(self, *args, row_groups, **options):
        begun.extend(row_groups)
        return plain(self, *args, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", note)
    return begun


@pytest.mark.parametrize("rows_per_group", [1, 5, CHUNK_ROWS, 3 * CHUNK_ROWS + 1, 1000])
def test_every_image_is_found_whatever_the_row_groups(tmp_path, rows_per_group):
    keys = [f"k{row:03}" for row in range(100)]
    column = ImageColumn(write_images(tmp_path / "t.parquet", keys, rows_per_group=rows_per_group))
    wanted = [keys[row] for row in (99, 0, 50, 17, 16, 15, 50)]
    assert column.read(wanted) == {key: make_image(int(key[1:])) for key in wanted}
    assert list(column.read(wanted)) == list(dict.fromkeys(wanted))
    assert {key: column.read([key])[key] for key in reversed(keys)} == {key: make_image(row) for row, key in enumerate(keys)}
    assert len(column) == 100


def test_only_the_needed_row_groups_are_read_and_in_order_each_once(tmp_path, decoded):
    keys = [f"k{row:03}" for row in range(100)]
    column = ImageColumn(write_images(tmp_path / "t.parquet", keys, rows_per_group=30))
    column.read(["k095", "k001", "k020"])
    assert decoded == [0, 3]
    decoded.clear()
    for start in range(0, 100, 7):
        column.read(keys[start : start + 7])
    assert decoded == [0, 1, 2, 3]


def test_the_key_may_be_another_column_and_the_table_may_be_unsorted_or_empty(tmp_path):
    column = ImageColumn(write_images(tmp_path / "t.parquet", ["b", "a"], key="case_id"), key="case_id")
    assert column.read(["a", "b"]) == {"a": make_image(1), "b": make_image(0)}
    empty = ImageColumn(write_images(tmp_path / "empty.parquet", []))
    assert len(empty) == 0
    assert empty.read([]) == {}


def test_unknown_keys_are_named_and_can_be_asked_for(tmp_path):
    column = ImageColumn(write_images(tmp_path / "t.parquet", ["a", "b"]))
    assert "a" in column
    assert "c" not in column
    with pytest.raises(ValueError, match="has no item_id `c`"):
        column.read(["a", "c"])


def test_absent_images_are_empty_bytes(tmp_path):
    images = [None, {"bytes": None, "path": "p"}, {"bytes": b"", "path": None}, {"bytes": b"x", "path": None}]
    column = ImageColumn(write_images(tmp_path / "t.parquet", list("abcd"), images=images))
    assert column.read(list("abcd")) == {"a": b"", "b": b"", "c": b"", "d": b"x"}


@pytest.mark.parametrize(("keys", "complaint"), [(["a", "b", "a"], "item_id `a` occurs twice"), (["a", None, None], "column `item_id` holds nulls")])
def test_keys_that_name_no_single_row_are_refused(tmp_path, keys, complaint):
    with pytest.raises(ValueError, match=complaint):
        ImageColumn(write_images(tmp_path / "t.parquet", keys))


def test_a_file_or_column_that_is_not_fit_is_refused_in_one_sentence(tmp_path):
    path = write_images(tmp_path / "t.parquet", ["a"])
    for options, complaint in (({"key": "case_id"}, "`case_id` is missing"), ({"key": "image"}, "must be string"), ({"column": "text"}, "is string")):
        with pytest.raises(ValueError, match=complaint):
            ImageColumn(path, **options)
    with pytest.raises(ValueError, match="does not exist"):
        ImageColumn(tmp_path / "none.parquet")
    path.write_bytes(b"PAR1 nothing else")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        ImageColumn(path)


def test_a_flipped_byte_is_found_and_the_other_images_stay_readable(tmp_path):
    images = [{"bytes": bytes([row]) * 64 + b"mark", "path": None} for row in range(4)]
    path = write_images(tmp_path / "t.parquet", list("abcd"), rows_per_group=2, images=images)
    data = bytearray(path.read_bytes())
    data[data.index(b"mark")] ^= 1
    path.write_bytes(data)
    column = ImageColumn(path)
    for _ in range(2):
        with pytest.raises(ValueError, match="not a readable Parquet file"):
            column.read(["a"])
    assert column.read(["d"]) == {"d": images[3]["bytes"]}


def test_memory_holds_a_few_rows_and_a_page_of_a_row_group_and_not_the_whole(tmp_path):
    megabyte = 1 << 20
    images = [{"bytes": bytes([row]) * megabyte, "path": None} for row in range(8 * CHUNK_ROWS)]
    keys = [f"k{row:03}" for row in range(len(images))]
    column = ImageColumn(write_images(tmp_path / "t.parquet", keys, images=images, write_batch_size=4, use_dictionary=False))
    before = pa.total_allocated_bytes()
    for row, key in enumerate(keys):
        assert column.read([key])[key] == images[row]["bytes"]
        assert pa.total_allocated_bytes() - before < 3 * CHUNK_ROWS * megabyte
