"""Maps over rows: what a row is, in which batches rows are computed, and what becomes of every one of them.

A row is identified by the hash of its inputs under the ledger's key; a row that the ledger holds is never computed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.artifacts import write_table
from pipeline.fingerprint import compute_fingerprint
from pipeline.ledger import Ledger
from pipeline.runtime import progress
from pipeline.schemas import REJECTED

Key = str | tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One unit of work: its key in the output, the inputs that identify it (hashed), and what `compute` needs."""

    key: Key
    inputs: Any
    payload: Any = None


@dataclass(frozen=True)
class Rejection:
    """Why a row cannot be processed, as one sentence for a person."""

    reason: str


@dataclass(frozen=True)
class Summary:
    """What a stage did: every input row is computed, reused or rejected (a rejected row may be reused as well)."""

    rows_in: int
    computed: int
    reused: int
    rejected: int
    seconds: float


@dataclass
class MapResult:
    """The outcome of every input row, by key: output columns, or the reason of its rejection."""

    values: dict[Key, dict[str, Any]] = field(default_factory=dict)
    rejected: dict[Key, str] = field(default_factory=dict)
    summary: Summary = field(default_factory=lambda: Summary(0, 0, 0, 0, 0.0))


def map_rows(
    ledger: Ledger,
    rows: Sequence[Row],
    compute: Callable[[list[Row]], Sequence[dict[str, Any] | Rejection]],
    *,
    batch_size: int,
    label: str,
) -> MapResult:
    """Compute every row that the ledger lacks, batch by batch, and return the outcome of all.

    Rows go in key order; unfinished unique rows are cut into batches of `batch_size`, and the last one is filled up with
    copies of its last row, so that every forward pass has the same shape. A batch is committed before the next begins:
    after a kill the finished batches are a prefix, and the rest is cut exactly as it would have been.
    """
    started = time.monotonic()
    hashes = {row.key: compute_fingerprint(row.inputs) for row in rows}
    if len(hashes) != len(rows):
        raise ValueError(f"{label}: two rows share a key.")
    pending: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.key):
        if hashes[row.key] not in ledger.rows:
            pending.setdefault(hashes[row.key], row)
    work = list(pending.items())
    starts = range(0, len(work), batch_size)
    for start in progress(starts, label=label, total=len(work), step=batch_size):
        batch = work[start : start + batch_size]
        padded = [row for _, row in batch] + [batch[-1][1]] * (batch_size - len(batch))
        outcomes = compute(padded)
        if len(outcomes) != len(padded):
            raise AssertionError(f"{label}: {len(padded)} rows went in, {len(outcomes)} outcomes came out")
        ledger.append({row_hash: _to_record(outcome, ledger.schema) for (row_hash, _), outcome in zip(batch, outcomes, strict=False)})
    return _collect_outcomes(ledger, rows, hashes, num_computed=len(work), seconds=time.monotonic() - started)


def _to_record(outcome: dict[str, Any] | Rejection, schema: pa.Schema) -> dict[str, Any]:
    names = [name for name in schema.names if name not in ("row_hash", "reason")]
    if isinstance(outcome, Rejection):
        return {"reason": outcome.reason, **dict.fromkeys(names)}
    return {"reason": None, **{name: outcome[name] for name in names}}


def _collect_outcomes(ledger: Ledger, rows: Sequence[Row], hashes: dict[Key, str], *, num_computed: int, seconds: float) -> MapResult:
    result = MapResult()
    for row in sorted(rows, key=lambda row: row.key):
        record = dict(ledger.rows[hashes[row.key]])
        reason = record.pop("reason")
        if reason is None:
            result.values[row.key] = record
        else:
            result.rejected[row.key] = reason
    result.summary = Summary(
        rows_in=len(rows), computed=num_computed, reused=len(rows) - num_computed, rejected=len(result.rejected), seconds=seconds
    )
    return result


def write_rejected(path: Path, stage: str, rejected: dict[Key, str], *, rows_in: int, max_fraction: float, provenance: dict[str, object]) -> None:
    """Write the stage's rejected rows; ValueError if they are more than `max_fraction` of the input."""
    rows = [{"stage": stage, "row_key": key if isinstance(key, str) else "/".join(key), "reason": reason} for key, reason in rejected.items()]
    write_table(path, rows, REJECTED, provenance=provenance)
    if rows_in and len(rows) > max_fraction * rows_in:
        raise ValueError(
            f"{stage}: {len(rows)} of {rows_in} rows were rejected, more than the allowed fraction {max_fraction}; "
            f"the first: {rows[0]['row_key']}: {rows[0]['reason']} All are in {path}."
        )
