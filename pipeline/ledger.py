"""Finished rows that outlive a crash, as sealed `part-*.parquet` in their folder of `.work/`.

A row is identified by the hash of its inputs. What is in memory is these hashes; values stay in the files until they are asked for, and a
part is checked against its digest before any of its values is used. A damaged part is set aside, and its rows count as lacking.

Every batch is a part at first. When FAN_IN parts of one size stand at the end they become one, as in a log-structured merge tree: a row is
rewritten once per power of FAN_IN, and a run over a million rows leaves some dozen files. The name says which batches a part holds; what a kill
leaves beside a merged part is recognised by it and removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.columns import put_in_order
from pipeline.files import is_intact, list_sealed, set_aside, write_sealed
from pipeline.work import open_work

CHANGES_NO_RESULT = True
HASH = pa.binary(32)
FAN_IN = 16
MAX_PART_BYTES = 512 * 2**20  # of a merged file: what one flipped byte can cost
GROUP_BYTES = 16 * 2**20  # of a merged file's row groups in memory
WINDOW_BYTES = 64 * 2**20  # of values that are read at once
NO_ROWS = pa.array([], HASH)


@dataclass
class Part:
    """One file of finished rows: the numbers of its first and last batch, its row hashes, and where its row groups begin."""

    path: Path
    first: int
    last: int
    hashes: pa.Array
    group_starts: np.ndarray  # one more than there are row groups
    group_bytes: np.ndarray  # in memory
    num_bytes: int  # on disk
    intact: bool | None = None  # None: not looked at yet

    @property
    def level(self) -> int:
        """Return how often FAN_IN parts were made one."""
        level, batches = 0, self.last - self.first + 1
        while batches >= FAN_IN:
            level, batches = level + 1, batches // FAN_IN
        return level

    def check(self) -> bool:
        """Say whether the file is what was written; it is read once."""
        if self.intact is None:
            self.intact = is_intact(self.path)
        return self.intact


class Ledger:
    """The finished rows of one stage under one key; `columns` are the outputs that a row holds."""

    def __init__(self, folder: Path, columns: pa.Schema) -> None:
        self.folder = folder
        self.schema = pa.schema([pa.field("row_hash", HASH), pa.field("reason", pa.string()), *columns])
        self.is_open = True
        self._parts = [part for part in map(self._open_part, remove_merged(folder)) if part is not None]
        self._next = 1 + max((parse_range(path)[1] for path in folder.glob("part-*")), default=-1)

    def find(self, hashes: pa.Array) -> np.ndarray:
        """Return the place of every row hash, -1 for a row that is lacking; places are valid until a part is added or set aside."""
        known = pa.concat_arrays([NO_ROWS, *(part.hashes for part in self._parts)])
        return pc.index_in(hashes, value_set=known).fill_null(-1).to_numpy().astype(np.int64)

    def append(self, records: pa.Table) -> None:
        """Commit finished rows as one part: after this returns they survive a kill and a power cut."""
        self._parts.append(self._write_part(self._next, self._next, [records]))
        self._next += 1
        self._merge_tail()

    def set_damaged_aside(self) -> bool:
        """Check every part; say whether one was damaged, whose rows then are lacking."""
        damaged = [part for part in self._parts if not part.check()]
        self._drop(damaged)
        return bool(damaged)

    def read_reasons(self, places: np.ndarray) -> pa.Array:
        """Return why each of the rows was rejected; null for one that was not."""
        columns = []
        for part in self._parts:
            with pq.ParquetFile(part.path) as file:
                columns += file.read(columns=["reason"]).column(0).chunks
        return pa.concat_arrays([pa.array([], pa.string()), *columns]).take(pa.array(places))

    def read_values(self, places: np.ndarray) -> Iterator[pa.Table]:
        """Yield the rows' values in the order of the places, some at a time, so that they need not fit into memory together."""
        sizes = np.cumsum(self._estimate_bytes(places))
        start = 0
        while start < len(places):
            used = sizes[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(sizes, used + WINDOW_BYTES, side="right")))
            yield self._gather(places[start:stop])
            start = stop

    def _open_part(self, path: Path) -> Part | None:
        try:
            return self._describe_part(path)
        except Exception:  # a damaged footer raises many kinds
            if is_intact(path):
                raise
            set_aside(path)
            return None

    def _describe_part(self, path: Path) -> Part:
        first, last = parse_range(path)
        with pq.ParquetFile(path) as file:
            assert file.schema_arrow.names == self.schema.names, "the columns are part of the key"
            hashes = pa.concat_arrays([NO_ROWS, *file.read(columns=["row_hash"]).column(0).chunks])
            groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        starts = np.cumsum([0, *(group.num_rows for group in groups)])
        return Part(path, first, last, hashes, starts, np.array([group.total_byte_size for group in groups]), path.stat().st_size)

    def _write_part(self, first: int, last: int, tables: Sequence[pa.Table] | Iterator[pa.Table]) -> Part:
        def write(path: Path) -> None:
            with pq.ParquetWriter(path, self.schema, compression="zstd", use_dictionary=False, write_statistics=False) as writer:
                for table in tables:
                    writer.write_table(table)

        return self._describe_part(write_sealed(self.folder, f"part-{first:08d}-{last:08d}", ".parquet", write))

    def _merge_tail(self) -> None:
        """Make one part of the last ones, as long as FAN_IN or more of them are of one level."""
        while True:
            tail = self._parts[-count_tail([part.level for part in self._parts]) :]
            if len(tail) < FAN_IN or sum(part.num_bytes for part in tail) > MAX_PART_BYTES:
                return
            if damaged := [part for part in tail if not part.check()]:  # a new seal must not cover old damage
                self._drop(damaged)
                continue
            merged = self._write_part(tail[0].first, tail[-1].last, join_groups(tail))
            self._parts[-len(tail) :] = [merged]
            for part in tail:
                part.path.unlink()

    def _drop(self, damaged: list[Part]) -> None:
        for part in damaged:
            set_aside(part.path)
            self._parts.remove(part)

    def _find_parts(self, places: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._list_starts(), places, side="right") - 1

    def _list_starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(part.hashes) for part in self._parts)])

    def _estimate_bytes(self, places: np.ndarray) -> np.ndarray:
        means = np.array([part.group_bytes.sum() / max(len(part.hashes), 1) for part in self._parts])
        return means[self._find_parts(places)]

    def _gather(self, places: np.ndarray) -> pa.Table:
        """Read the row groups that hold the places, each once, and put the rows into the places' order."""
        names = self.schema.names[2:]
        starts, part_of = self._list_starts(), self._find_parts(places)
        pieces: list[pa.Table] = []
        found: list[np.ndarray] = []
        for index in np.unique(part_of):
            part, mine = self._parts[index], np.flatnonzero(part_of == index)
            rows = places[mine] - starts[index]
            group_of = np.searchsorted(part.group_starts, rows, side="right") - 1
            with pq.ParquetFile(part.path) as file:
                for group in np.unique(group_of):
                    here = group_of == group
                    pieces.append(file.read_row_group(int(group), columns=names).take(pa.array(rows[here] - part.group_starts[group])))
                    found.append(mine[here])
        return put_in_order(pa.concat_tables(pieces), found)


def parse_range(path: Path) -> tuple[int, int]:
    """Return the numbers of the first and the last batch of a part."""
    _, first, last, *_ = path.stem.split("-")
    return int(first), int(last)


def remove_merged(folder: Path) -> list[Path]:
    """Remove parts whose rows a merged part holds (a kill came between) and list the others; a damaged merged part gives way to its sources."""
    kept: list[Path] = []
    for path in sorted(list_sealed(folder, "part-", ".parquet"), key=lambda path: (parse_range(path)[0], -parse_range(path)[1])):
        if not kept or parse_range(kept[-1])[1] < parse_range(path)[1]:
            kept.append(path)
        elif is_intact(kept[-1]):
            path.unlink()
        else:
            set_aside(kept.pop())
            kept.append(path)
    return kept


def count_tail(levels: list[int]) -> int:
    """Return how many levels at the end of the list are equal to the last."""
    return next((count for count, level in enumerate(reversed(levels)) if level != levels[-1]), len(levels))


def join_groups(parts: list[Part]) -> Iterator[pa.Table]:
    """Yield the parts' rows in larger row groups."""
    held: list[pa.Table] = []
    for part in parts:
        with pq.ParquetFile(part.path) as file:
            for group in range(file.num_row_groups):
                held.append(file.read_row_group(group))
                if sum(table.nbytes for table in held) >= GROUP_BYTES:
                    yield pa.concat_tables(held).combine_chunks()
                    held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


@contextlib.contextmanager
def open_ledger(name: str, columns: pa.Schema, *, code: Sequence[Any], inputs: object) -> Iterator[Ledger]:
    """Open the finished rows of `name` whose values `code` computes from `inputs` and the row; see `pipeline.work.open_work`."""
    with open_work(name, code=code, inputs=(str(columns), inputs)) as folder:
        ledger = Ledger(folder, columns)
        try:
            yield ledger
        finally:
            ledger.is_open = False
