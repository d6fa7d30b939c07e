"""Maps over rows: what a row is, in which batches rows are computed, and what becomes of every one of them.

A row is identified by the hash of its inputs under the ledger's key; a row that the ledger holds is never computed again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import pack_matrix
from pipeline.engine import compute_batches
from pipeline.fingerprint import compute_fingerprint
from pipeline.ledger import HASH, Ledger
from pipeline.runtime import progress

Key = str | tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One unit of work: its key in the output, the inputs that identify it (hashed), what `compute` needs, and its place in the order."""

    key: Key
    inputs: Any
    payload: Any = None
    order: str = ""  # rows are computed by it, then by key: alike rows are cheaper together


@dataclass(frozen=True)
class Rejection:
    """Why a row cannot be processed, as one sentence for a person."""

    reason: str


@dataclass(frozen=True)
class Columns:
    """A batch's outcomes column by column: whatever Arrow takes, or a matrix of which each line is stored as bytes.

    `rejected` says by index which rows have none and why; what their places in the columns hold does not matter.
    """

    values: Mapping[str, Any]
    rejected: Mapping[int, str] = field(default_factory=dict)


Outcomes = Columns | Sequence[dict[str, Any] | Rejection]


@dataclass(frozen=True)
class Summary:
    """What a stage did: every input row is computed, reused or rejected (a rejected row may be reused as well)."""

    rows_in: int
    computed: int
    reused: int
    rejected: int
    seconds: float


class MapResult:
    """The outcome of every input row: why it was rejected, or its values, which stay in the ledger until they are read.

    They can be read while the ledger is open; `load` reads them all for later.
    """

    def __init__(self, ledger: Ledger, keys: list[Key], places: np.ndarray, rejected: dict[Key, str], summary: Summary) -> None:
        self.keys = keys  # of the rows that have values, ascending
        self.rejected = rejected
        self.summary = summary
        self._ledger, self._places = ledger, places

    def iterate(self, *key_names: str) -> Iterator[pa.Table]:
        """Yield the values in key order, some rows at a time, each with its key in columns of these names (two for keys that are pairs)."""
        assert self._ledger.is_open, "values are read while their ledger is open"
        start = 0
        for values in self._ledger.read_values(self._places):
            keys = self.keys[start : start + len(values)]
            parts = zip(*((key,) if isinstance(key, str) else key for key in keys), strict=True)
            columns = {name: pa.array(part, pa.string()) for name, part in zip(key_names, parts, strict=True)}
            yield pa.table({**columns, **dict(zip(values.column_names, values.columns, strict=True))})
            start += len(values)

    @cached_property
    def values(self) -> dict[Key, dict[str, Any]]:
        """All values by key, for maps of few rows."""
        assert self._ledger.is_open, "values are read while their ledger is open"
        rows = (row for table in self._ledger.read_values(self._places) for row in table.to_pylist())
        return dict(zip(self.keys, rows, strict=True))

    def load(self) -> MapResult:
        """Read `values` now, so that they can be used after the ledger is closed."""
        assert len(self.values) == len(self.keys)
        return self


def map_rows(
    ledger: Ledger,
    rows: Sequence[Row],
    compute: Callable[[list[Row]], Outcomes],
    *,
    batch_size: int,
    label: str,
    in_copies: bool = True,
    prepare: Callable[[], object] | None = None,
) -> MapResult:
    """Compute every row that the ledger lacks, batch by batch, and return the outcome of all.

    Rows go by order and key; unfinished unique rows are cut into batches of `batch_size`, and the last one is filled up with
    copies of its last row, so that every forward pass has the same shape. Batches are committed whole, in whichever order they are
    finished: all but the last are full, so the rest is cut after a kill exactly as it would have been. Rows that turn out to be damaged
    when everything is computed are computed again. `compute` may run in other processes (`pipeline/engine.py`); without `in_copies` only in
    those of a cluster: where what it has computed for one batch serves the next ones, copies of this process would compute it several times.
    `prepare` loads what `compute` needs; without it the first batch does, while the other cores wait.
    """
    started = time.monotonic()
    ordered = sorted(rows, key=lambda row: row.key)
    if any(first.key == second.key for first, second in itertools.pairwise(ordered)):
        raise ValueError(f"{label}: two rows share a key.")
    hashes = pa.array([bytes.fromhex(compute_fingerprint(row.inputs)) for row in ordered], HASH)
    num_computed = 0
    while True:
        num_computed += _compute_lacking(ledger, ordered, hashes, compute, batch_size=batch_size, label=label, in_copies=in_copies, prepare=prepare)
        if not ledger.set_damaged_aside():
            break
    places = ledger.find(hashes)
    reasons = ledger.read_reasons(places)
    rejected = {ordered[index].key: reasons[index].as_py() for index in np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False)).tolist()}
    accepted = np.flatnonzero(reasons.is_null().to_numpy(zero_copy_only=False))
    summary = Summary(len(rows), num_computed, len(rows) - num_computed, len(rejected), time.monotonic() - started)
    return MapResult(ledger, [ordered[index].key for index in accepted.tolist()], places[accepted], rejected, summary)


def _compute_lacking(
    ledger: Ledger,
    ordered: list[Row],
    hashes: pa.Array,
    compute: Callable[[list[Row]], Outcomes],
    *,
    batch_size: int,
    label: str,
    in_copies: bool,
    prepare: Callable[[], object] | None,
) -> int:
    """Compute what the ledger lacks; return the number of rows."""
    pending: dict[bytes, Row] = {}
    for index in np.flatnonzero(ledger.find(hashes) < 0).tolist():
        pending.setdefault(hashes[index].as_py(), ordered[index])
    work = sorted(pending.items(), key=lambda item: (item[1].order, item[1].key))
    batches = [work[start : start + batch_size] for start in range(0, len(work), batch_size)]
    padded = [[row for _, row in batch] + [batch[-1][1]] * (batch_size - len(batch)) for batch in batches]
    computed = compute_batches(padded, compute, label=label, in_copies=in_copies, prepare=prepare)
    for index, outcomes in progress(computed, label=label, total=len(work), step=batch_size):
        hashes_done = [row_hash for row_hash, _ in batches[index]]
        ledger.append(build_records(hashes_done, outcomes, ledger.schema, size=batch_size, label=label))
    return len(work)


def build_records(hashes: list[bytes], outcomes: Outcomes, schema: pa.Schema, *, size: int, label: str) -> pa.Table:
    """Build what the ledger stores of a batch of `size` rows, without the copies that filled it up."""
    names = schema.names[2:]
    if not isinstance(outcomes, Columns):
        rejected = {index: outcome.reason for index, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)}
        listed = {name: [None if isinstance(outcome, Rejection) else outcome[name] for outcome in outcomes] for name in names}
        outcomes = Columns(listed, rejected)
    if any(len(outcomes.values[name]) != size for name in names):
        raise AssertionError(f"{label}: {size} rows went in, but not as many outcomes came out")
    count = len(hashes)
    reasons = pa.array([outcomes.rejected.get(index) for index in range(count)], pa.string())
    columns = [build_column(outcomes.values[name][:count], schema.field(name).type) for name in names]
    return pa.table([pa.array(hashes, HASH), reasons, *(pc.if_else(reasons.is_null(), column, None) for column in columns)], schema=schema)


def build_column(values: Any, dtype: pa.DataType) -> pa.Array:
    """Build one column; a matrix becomes bytes line by line."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return pack_matrix(values)
    return pa.array(values, dtype)
