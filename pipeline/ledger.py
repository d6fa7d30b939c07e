"""Finished work that outlives a crash: rows already computed, and training checkpoints. The only module that knows `.work/`.

DVC deletes a stage's outs before it runs, so finished rows are kept outside of them, in
`$DVC_ROOT/.work/<stage>/<fingerprint>/part-*.parquet`. A row is identified by the hash of its inputs; a row that exists is
never computed again. A part is written as temporary file, fsynced and renamed, so it is there as a whole or not at all; a
part that was damaged later fails its page checksums, is set aside, and its rows are computed again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import read_tensors, replace_file, write_table, write_tensors
from pipeline.params import hash_params
from pipeline.runtime import progress
from pipeline.schemas import REJECTED

if TYPE_CHECKING:
    import torch

Key = str | tuple[str, ...]
KEPT_FINGERPRINTS = 8  # newest ledgers of a stage that survive collection


@dataclass(frozen=True)
class Row:
    """One unit of work: its key in the output, the inputs that identify it (hashed), what `compute` needs, and its place in the order."""

    key: Key
    inputs: Any
    payload: Any = None
    order: str = ""  # rows go by it, then by key: alike rows are cheaper together


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


def work_dir() -> Path:
    """Return the folder of unfinished and reusable work: `.work` in `$DVC_ROOT` (the parent repository in temporary runs) or here."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".work"


class Ledger:
    """The finished rows of one stage under one fingerprint; `columns` are the outputs that a row holds."""

    def __init__(self, folder: Path, columns: pa.Schema) -> None:
        self.folder = folder
        self.schema = pa.schema([pa.field("row_hash", pa.string()), pa.field("reason", pa.string()), *columns])
        self.rows: dict[str, dict[str, Any]] = {}
        self._num_parts = 0
        for path in sorted(folder.glob("part-*.parquet")):
            self._num_parts = max(self._num_parts, int(path.stem.split("-")[1]) + 1)
            self._read_part(path)

    def _read_part(self, path: Path) -> None:
        try:
            part = pq.read_table(path, page_checksum_verification=True)
            if not part.schema.remove_metadata().equals(self.schema):
                raise pa.ArrowInvalid("its columns are not this stage's")
        except (pa.ArrowException, OSError) as error:
            print(f"warning: finished rows in {path.name} are damaged ({str(error).splitlines()[0]}); they are computed again", flush=True)
            path.rename(path.with_suffix(".damaged"))
            return
        for row in part.to_pylist():
            self.rows[row.pop("row_hash")] = row

    def append(self, rows: dict[str, dict[str, Any]]) -> None:
        """Commit finished rows (by row hash) as one part: after this returns they survive a kill and a power cut."""
        records = [{"row_hash": row_hash, **row} for row_hash, row in rows.items()]
        with replace_file(self.folder / f"part-{self._num_parts:06d}.parquet") as temporary:
            pq.write_table(pa.Table.from_pylist(records, schema=self.schema), temporary, compression="zstd", write_page_checksum=True)
        self._num_parts += 1
        # read back what was stored, so that a reused row equals a computed one to the last bit
        for record in pa.Table.from_pylist(records, schema=self.schema).to_pylist():
            self.rows[record.pop("row_hash")] = record


@contextlib.contextmanager
def open_ledger(stage: str, fingerprint: str, columns: pa.Schema) -> Iterator[Ledger]:
    """Open the ledger of `stage` under `fingerprint` for one process; a second process gets a clear error."""
    folder = work_dir() / stage.replace("@", "/") / fingerprint[:32]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)  # marks it as in use: collection keeps the newest
    with lock_folder(folder):
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        collect_old(folder)
        yield Ledger(folder, columns)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it is released when the process ends, however it ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder} is in use by another run; wait for it to end.") from error
        yield


def collect_old(folder: Path) -> None:
    """Remove the oldest fingerprints beside `folder` beyond the newest KEPT_FINGERPRINTS."""
    siblings = sorted((path for path in folder.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in siblings[KEPT_FINGERPRINTS:]:
        with contextlib.suppress(ValueError), lock_folder(path):
            shutil.rmtree(path)


def map_rows(
    ledger: Ledger,
    rows: Sequence[Row],
    compute: Callable[[list[Row]], Sequence[dict[str, Any] | Rejection]],
    *,
    batch_size: int,
    label: str,
) -> MapResult:
    """Compute every row that the ledger lacks, batch by batch, and return the outcome of all.

    Rows go by order and key; unfinished unique rows are cut into batches of `batch_size`, and the last one is filled up with
    copies of its last row, so that every forward pass has the same shape. A batch is committed before the next begins:
    after a kill the finished batches are a prefix, and the rest is cut exactly as it would have been.
    """
    started = time.monotonic()
    hashes = {row.key: hash_params(row.inputs) for row in rows}
    if len(hashes) != len(rows):
        raise ValueError(f"{label}: two rows share a key.")
    pending: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row.order, row.key)):
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


def save_checkpoint(stage: str, fingerprint: str, *, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any] | None = None) -> None:
    """Replace the training checkpoint of `stage`: everything that the next step needs, `step` = steps finished."""
    path = work_dir() / stage.replace("@", "/") / fingerprint[:32] / "checkpoint.safetensors"
    write_tensors(path, tensors, {"step": step, "facts": facts or {}})


def load_checkpoint(stage: str, fingerprint: str) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return (steps finished, tensors, facts) of the last checkpoint, or None; a damaged one counts as none."""
    path = work_dir() / stage.replace("@", "/") / fingerprint[:32] / "checkpoint.safetensors"
    if not path.is_file():
        return None
    try:
        tensors, metadata = read_tensors(path)
        return int(metadata["step"]), tensors, metadata["facts"]
    except (ValueError, KeyError, json.JSONDecodeError) as error:
        print(f"warning: {path.name} of {stage} is damaged ({error}); training starts again", flush=True)
        return None


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimiser's state (one tensor a parameter and name, `step` included) under names that `restore_optimizer` reads."""
    import torch

    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put the state written by `flatten_optimizer` back; other names in `tensors` are left alone."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    current = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})
