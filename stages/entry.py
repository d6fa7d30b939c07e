"""Run a stage from the command line: quiet libraries, bad input as one clear sentence, and the ending that table stages share."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer

from pipeline.allocator import keep_freed_memory
from pipeline.artifacts import write_table
from pipeline.rows import Key, Summary, write_rejected
from pipeline.runtime import print_summary, setup_logging
from pipeline.schemas import Table

Rows = pa.Table | Sequence[dict[str, Any]]


def run_stage(app: typer.Typer) -> None:
    """Run the typer app; a ValueError (bad params or data) ends the process with one line on stderr and exit code 2."""
    setup_logging()
    keep_freed_memory()
    try:
        app()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def write_outcome(
    stage: str,
    path: Path,
    rows: Rows | Callable[[], Rows],
    table: Table,
    *,
    rejected: dict[Key, str],
    summary: Summary,
    max_fraction: float,
    provenance: dict[str, object],
) -> None:
    """Print the stage's closing line, write `rejected.parquet` beside `path`, then the table; too many rejects are a ValueError.

    `rows` may be a function; it is called after the rejects are written, whose reasons can then be read even where no table can be built.
    """
    print_summary(stage, summary)
    rejects = path.parent / "rejected.parquet"
    write_rejected(rejects, stage, rejected, rows_in=summary.rows_in, max_fraction=max_fraction, provenance=provenance)
    write_table(path, rows() if callable(rows) else rows, table, provenance=provenance)
