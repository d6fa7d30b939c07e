"""A driver with stand-in models: `python -m tests.pipeline.cluster.driver local|ray TABLE SCRATCH NUM_ROWS SECONDS_PER_BATCH`.

A row's value depends on its neighbours in the batch, as a model's last bits may, so that another cut of the batches changes the table.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.artifacts import write_table
from pipeline.engine import choose_engine
from pipeline.ledger import open_ledger
from pipeline.models.lazy import LazyModel
from pipeline.rows import Columns, MapResult, Row, map_rows
from pipeline.schemas import Table

BATCH_SIZE = 4
COLUMNS = pa.schema([pa.field("value", pa.float64()), pa.field("word", pa.string())])
TABLE = Table("toy", {"item_id": pa.string(), "value": pa.float64(), "word": pa.string()}, key=("item_id",))


def make_rows(count: int) -> list[Row]:
    """Make rows whose order is not that of their keys; the last batch is not full."""
    return [Row(f"item-{index:04}", {"number": index}, index, order=str(index * 7919 % 101)) for index in range(count)]


def load(scratch: Path) -> np.ndarray:
    """Load the model, and leave a mark that this process has done so."""
    with (scratch / f"loaded-{os.getpid()}").open("a", encoding="ascii") as file:
        file.write("x")
    return np.arange(1000, dtype=np.float64)


def run(scratch: Path, num_rows: int, seconds: float) -> Iterator[MapResult]:
    """Map the rows; while a batch is at work a file `busy-PID` says so."""
    model = LazyModel("toy 1", lambda: load(scratch))

    def compute(batch: list[Row]) -> Columns:
        busy = scratch / f"busy-{os.getpid()}"
        busy.touch()
        weight = model.model[: len(batch)].sum()
        time.sleep(seconds)
        values = np.array([row.payload + weight for row in batch], dtype=np.float64)
        busy.unlink(missing_ok=True)
        rejected = {place: "It is divisible by 13." for place, row in enumerate(batch) if row.payload % 13 == 0}
        return Columns({"value": values / values.sum(), "word": [f"word {row.key}" for row in batch]}, rejected)

    with open_ledger("toy", COLUMNS, code=[run], inputs="toy") as ledger:
        yield map_rows(ledger, make_rows(num_rows), compute, batch_size=BATCH_SIZE, label="toy")


def main(engine: str, table: str, scratch: str, num_rows: str, seconds: str) -> None:
    """Write the table, and print how many rows were computed."""
    choose_engine(engine, None, needs_gpu=False)
    for result in run(Path(scratch), int(num_rows), float(seconds)):
        write_table(Path(table), result.iterate("item_id"), TABLE, provenance={})
        print(result.summary.computed, len(result.rejected))


if __name__ == "__main__":
    main(*sys.argv[1:])
