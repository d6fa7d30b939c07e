"""Log a training to DVCLive while it runs, so that `dvc plots` and editors can follow a reflection that is not over.

What is logged follows from the training alone: a training that was killed logs its finished steps again when it goes on, and ends
with the same files. The curves' CSV, which the report reads, is written once at the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

RowLogger = Callable[[dict[str, float]], None]


@contextlib.contextmanager
def open_live(folder: Path) -> Iterator[RowLogger]:
    """Yield a function that logs one row of the curves, its `step` included; what `folder` held before is removed."""
    try:
        from dvclive import Live
    except ImportError as error:
        raise ValueError("the package `dvclive` is not installed, run `make setup`") from error
    # the pipeline's own dvc.yaml declares the plots, and `dvc exp run` saves the experiment
    with Live(str(folder), dvcyaml=False, save_dvc_exp=False) as live:

        def log_row(row: dict[str, float]) -> None:
            live.step = int(row["step"])
            for name in sorted(set(row) - {"step"}):  # sorted: a row that comes from a checkpoint has another order
                live.log_metric(name, row[name])
            live.make_summary()

        yield log_row
