"""Finished rows that outlive a crash, as `part-*.parquet` in their folder of `.work/`.

A row is identified by the hash of its inputs. A part is written as temporary file, fsynced and renamed, so it is there as a whole or not
at all; a part that was damaged later fails its page checksums, is set aside, and its rows are computed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import replace_file
from pipeline.work import open_work

CHANGES_NO_RESULT = True


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
def open_ledger(name: str, columns: pa.Schema, *, code: Sequence[Any], inputs: object) -> Iterator[Ledger]:
    """Open the finished rows of `name` whose values `code` computes from `inputs` and the row; see `pipeline.work.open_work`."""
    with open_work(name, code=code, inputs=inputs) as folder:
        yield Ledger(folder, columns)
