"""Arrow columns of any size. Run: python -m pytest tests/pipeline/test_columns.py"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.columns import cut_groups, find_disorder, map_columns, pack_matrix, take_rows, unpack_vectors
from pipeline.schemas import IMAGE


def make_table(sizes: list[int]) -> pa.Table:
    images = pa.array([{"bytes": b"x" * size, "path": None} for size in sizes], IMAGE)
    return pa.table({"item_id": [f"{n:03d}" for n in range(len(sizes))], "image": images})


def test_one_column_by_another() -> None:
    assert map_columns(pa.table({"a": ["x", "y"], "b": [1, None]}), "a", "b") == {"x": 1, "y": None}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], (None, None)),
        ([("a", 1)], (None, None)),
        ([("a", 1), ("a", 2), ("b", 0)], (None, None)),
        ([("a", 2), ("a", 1), ("b", 0)], (0, None)),
        ([("a", 1), ("b", 0), ("b", 0)], (None, 1)),
        ([("a", 1), ("b", 0), ("b", 0), ("a", 5)], (2, 1)),
    ],
)
def test_rows_out_of_order_and_equal_neighbours_are_found(rows: list[tuple[str, int]], expected: tuple[int | None, int | None]) -> None:
    names, numbers = [row[0] for row in rows], [row[1] for row in rows]
    table = pa.table({"name": pa.array(names, pa.string()), "number": pa.array(numbers, pa.int32())})
    assert find_disorder(table) == expected
    assert find_disorder(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == expected


def test_rows_are_taken_in_any_order_from_any_chunks() -> None:
    table = pa.concat_tables([pa.table({"n": list(range(start, start + 5))}) for start in (0, 5, 10)])
    rows = np.random.default_rng(0).permutation(15)
    assert take_rows(table, rows)["n"].to_pylist() == rows.tolist()
    assert take_rows(table, np.array([7, 7, 2]))["n"].to_pylist() == [7, 7, 2]
    assert len(take_rows(table, np.array([], dtype=np.int64))) == 0


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 20])
def test_row_groups_are_bounded_by_rows_and_bytes_whatever_the_chunks(chunk: int) -> None:
    table = make_table([10, 10, 10, 70, 30, 5, 5, 5, 5, 250, 1, 1, 1, 1, 1])
    chunks = [table.slice(start, chunk) for start in range(0, len(table), chunk)]
    groups = list(cut_groups(chunks, max_rows=4, max_bytes=100))
    assert [len(group) for group in groups] == [4, 4, 1, 1, 4, 1]
    assert pa.concat_tables(groups).equals(table)
    (empty,) = cut_groups([table.slice(0, 0)], max_rows=4, max_bytes=100)
    assert (len(empty), empty.schema) == (0, table.schema)


def test_vectors_survive_their_packing() -> None:
    matrix_ND = np.random.default_rng(0).standard_normal((5, 7), dtype=np.float32)
    packed = pa.chunked_array([pack_matrix(matrix_ND[:2]), pack_matrix(np.asfortranarray(matrix_ND[2:])).slice(1)])
    vectors = unpack_vectors(packed)
    assert vectors.type == pa.list_(pa.float32(), 7)
    np.testing.assert_array_equal(np.array(vectors.to_pylist(), dtype=np.float32), matrix_ND[[0, 1, 3, 4]])
    with pytest.raises(ValueError, match="2 different lengths"):
        unpack_vectors(pa.chunked_array([[b"1234", b"12345678"]]))
