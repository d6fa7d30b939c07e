"""Read single images out of a table whose image column may be larger than memory, or than the 2 GiB of one Arrow array.

Only the key column is kept. Images are read forwards, row group by row group, a few rows at a time: asking in the table's order, in however
many calls, decodes every row group at most once. Asking for an earlier row begins its row group again, so collect keys before asking.

Memory: `CHUNK_ROWS` images and one page of the file. How much a page holds was decided when the file was written: pyarrow looks at a page's
size only every `write_batch_size` rows (1,024 unless told), which can be a whole row group but never more.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.schemas import IMAGE

CHUNK_ROWS = 16  # decoded at a time: 16 images of the largest allowed size are 512 MiB, usual ones a few
BUFFER_BYTES = 1 << 20  # read ahead; without it the reader takes a row group's whole column into memory


class ImageColumn:
    """The encoded images of one Parquet file by one of its columns; ValueError if that file or column is not fit for it.

    `key` names a string column without nulls or duplicates: `item_id` of items, `case_id` of one method's drawn images.
    """

    def __init__(self, path: Path, key: str = "item_id", column: str = "image") -> None:
        self._path, self._key, self._column = path, key, column
        if not path.is_file():
            raise ValueError(f"{path} does not exist; run the stage that writes it first.")
        try:
            self._file = pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
            self._check_types()
            keys = self._file.read(columns=[key])[key].to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise self._explain(error) from error
        self._rows = {value: row for row, value in enumerate(keys)}
        if None in self._rows:
            raise ValueError(f"{path}: column `{key}` holds nulls, but none is allowed.")
        if len(self._rows) < len(keys):
            twice = next(value for row, value in enumerate(keys) if self._rows[value] != row)
            raise ValueError(f"{path}: {key} `{twice}` occurs twice.")
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = list(itertools.accumulate(sizes, initial=0))[:-1]  # first row of every row group
        self._group = -1
        self._start, self._images = 0, pa.array([], type=pa.binary())  # first row of the decoded chunk, and the chunk
        self._chunks: Iterator[pa.RecordBatch] = iter(())

    def __reduce__(self) -> tuple[type[ImageColumn], tuple[Path, str, str]]:
        """Travel as the path: another process opens the file itself."""
        return ImageColumn, (self._path.absolute(), self._key, self._column)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the encoded image of every key, in the order of `keys`; empty bytes where the table stores none, ValueError for an unknown key."""
        for key in keys:
            if key not in self._rows:
                raise ValueError(f"{self._path} has no {self._key} `{key}`.")
        found: dict[str, bytes] = dict.fromkeys(keys, b"")
        for row, key in sorted((self._rows[key], key) for key in found):
            self._seek(row)
            found[key] = self._images[row - self._start].as_py() or b""
        return found

    def _seek(self, row: int) -> None:
        """Decode forwards until the current chunk holds `row`."""
        group = bisect.bisect_right(self._starts, row) - 1
        if group != self._group or row < self._start:
            self._group, self._start, self._images = group, self._starts[group], self._images[:0]
            self._chunks = self._file.iter_batches(CHUNK_ROWS, row_groups=[group], columns=[f"{self._column}.bytes"])
        while row >= self._start + len(self._images):
            self._start += len(self._images)
            try:
                self._images = next(self._chunks).column(0).flatten()[0]
            except (pa.ArrowException, OSError, StopIteration) as error:
                self._group = -1  # the next call begins this row group again
                raise self._explain(error) from error

    def _check_types(self) -> None:
        for name, kind in ((self._key, pa.string()), (self._column, IMAGE)):
            index = self._file.schema_arrow.get_field_index(name)
            if index < 0:
                raise ValueError(f"{self._path}: column `{name}` is missing.")
            found = self._file.schema_arrow.field(index).type
            if not found.equals(kind):
                raise ValueError(f"{self._path}: column `{name}` is {found}, but it must be {kind}.")

    def _explain(self, error: Exception) -> ValueError:
        reason = (str(error).splitlines() or ["rows are missing"])[0]
        return ValueError(f"{self._path} is not a readable Parquet file ({reason}).")
