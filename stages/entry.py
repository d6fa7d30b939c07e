"""Run a stage from the command line: quiet libraries, sound inputs, every failure as one sentence, and the ending that table stages share."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.allocator import keep_freed_memory
from pipeline.artifacts import Rows, write_rejected, write_table
from pipeline.endings import leave, run_command
from pipeline.memory import note_running
from pipeline.rows import Key, Summary
from pipeline.runtime import print_summary, setup_logging
from pipeline.schemas import Table
from pipeline.work import work_dir
from stages.inputs import find_out_folder, prepare

KEPT = "finished rows and checkpoints are kept, the same command goes on from there"
Needed = Annotated[Path, typer.Option()]  # a path that must be given
PARAMS = Path("params.yaml")


def run_stage(app: typer.Typer) -> None:
    """Run the typer app on inputs that are what dvc.lock says; whatever goes wrong is one line on stderr, see `run_command`."""
    setup_logging()
    keep_freed_memory()
    arguments, stage = sys.argv[1:], Path(sys.argv[0]).stem

    def run() -> None:
        with note_running(stage):
            prepare(arguments, Path.cwd())
            app()

    out = find_out_folder(arguments)
    try:
        run_command(run, kept=KEPT, folders=[*filter(None, [out]), work_dir()], stage=stage)
    except SystemExit as end:
        if isinstance(end.code, int) and getattr(sys.modules["__main__"], "app", None) is app:  # the whole process is this stage
            leave(end.code)
        raise


def list_files(paths: Sequence[Path], name: str) -> list[Path]:
    """Return the files called `name` that options name: a file, or a folder that holds one itself or one in each of its folders."""
    found: list[Path] = []
    for path in paths:
        own = path / name if path.is_dir() else path
        found += [own] if own.exists() or not path.is_dir() else sorted(path.glob(f"*/{name}"))
    return found


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
