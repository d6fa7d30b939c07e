"""Columns of Arrow tables: joined, ordered, gathered and cut into row groups, also where one column holds more than the 2 GiB of one array.

Arrow's own `take` and `combine_chunks` put a column's chunks into one array first, which fails beyond 2 GiB of bytes. What is gathered here is
put together from one record batch after the other, and a result is never larger than what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def map_columns(table: pa.Table, key: str, value: str) -> dict[Any, Any]:
    """Return one column by another."""
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))


def find_disorder(keys: pa.Table) -> tuple[int | None, int | None]:
    """Compare every row of the columns with the next; return the first row that is greater, and the first that is equal, where there is one."""
    count = max(len(keys) - 1, 0)
    greater, equal = pa.scalar(False), pa.array(np.ones(count, dtype=bool))
    for column in keys.columns:
        first, second = column.slice(0, count), column.slice(1)
        greater = pc.or_(greater, pc.and_(equal, pc.greater(first, second)))
        equal = pc.and_(equal, pc.equal(first, second))
    places = (pc.index(found, True).as_py() if count else -1 for found in (greater, equal))
    first_greater, first_equal = (None if place < 0 else place for place in places)
    return first_greater, first_equal


def take_rows(data: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return the rows in the order given; they must hold less than 2 GiB a column, the table need not."""
    batches = data.to_batches()
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    batch_of = np.searchsorted(starts, rows, side="right") - 1
    places = [np.flatnonzero(batch_of == index) for index in np.unique(batch_of)]
    pieces = [batches[batch_of[place[0]]].take(pa.array(rows[place] - starts[batch_of[place[0]]])) for place in places]
    if not pieces:
        return data.slice(0, 0)
    return put_in_order(pa.Table.from_batches(pieces), places)


def put_in_order(gathered: pa.Table, places: Sequence[np.ndarray]) -> pa.Table:
    """Return the rows of several pieces in the order of their places, which are the numbers from 0 on."""
    order = np.argsort(np.concatenate(places), kind="stable")
    in_order = bool((order[1:] > order[:-1]).all())
    return gathered.combine_chunks() if in_order else gathered.combine_chunks().take(pa.array(order))


def cut_groups(chunks: Iterable[pa.Table], *, max_rows: int, max_bytes: int) -> Iterator[pa.Table]:
    """Cut a stream of rows into row groups of at most `max_rows` rows and `max_bytes` bytes of images (one row may hold more).

    Where the cuts are depends on the rows alone, not on the chunks in which they come; a stream without rows is one empty group.
    """
    held: list[pa.Table] = []
    rows = size = 0
    chunk = pa.table({})
    for chunk in chunks:
        sizes, start = measure_images(chunk), 0
        while start < len(chunk):
            ends = size + np.cumsum(sizes[start : start + max_rows - rows])
            fitting = int(np.searchsorted(ends, max_bytes, side="right")) or int(rows == 0)
            if fitting:
                held.append(chunk.slice(start, fitting))
                start, rows, size = start + fitting, rows + fitting, int(ends[fitting - 1])
            if start < len(chunk):
                yield pa.concat_tables(held).combine_chunks()
                held, rows, size = [], 0, 0
    yield pa.concat_tables(held).combine_chunks() if held else chunk.slice(0, 0)


def measure_images(data: pa.Table) -> np.ndarray:
    """Return the bytes of every row's images; 0 in a table without images."""
    sizes = np.zeros(len(data), dtype=np.int64)
    for column in data.columns:
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            lengths = pc.fill_null(pc.binary_length(pc.struct_field(column, "bytes")), 0)
            sizes += lengths.to_numpy().astype(np.int64)
    return sizes


def pack_matrix(matrix_ND: np.ndarray) -> pa.Array:
    """Return a matrix as binary values, one per row: little-endian, compact and exact, and no width is part of the type."""
    data = np.ascontiguousarray(matrix_ND.astype(matrix_ND.dtype.newbyteorder("<"), copy=False))
    offsets = np.arange(len(data) + 1, dtype=np.int64) * (data.strides[0] if data.ndim > 1 else data.itemsize)
    assert offsets[-1] < 2**31, "a batch holds less than 2 GiB"
    return pa.Array.from_buffers(pa.binary(), len(data), [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)])


def unpack_vectors(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return binary values that `pack_matrix` made of float32 rows as vectors; ValueError if their lengths differ."""
    sizes = np.unique(pc.binary_length(column).to_numpy())
    if len(sizes) != 1 or sizes[0] % 4:
        raise ValueError(f"vectors have {len(sizes)} different lengths, but all must have one.")
    vectors = []
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        start, stop = (int(np.frombuffer(offsets, dtype=np.int32)[chunk.offset + place]) for place in (0, len(chunk)))
        flat = np.frombuffer(data, dtype="<f4", offset=start, count=(stop - start) // 4)
        vectors.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), int(sizes[0]) // 4))
    return pa.chunked_array(vectors)
