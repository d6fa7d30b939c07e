"""The command of `make draw`: `python -m pipeline.draw requests.csv --out FOLDER [--method ragar] [--candidates 4] [--seed 0] [--format png]`.

Behind `--args` may stand all that the Makefile was given. Exit code 0: at least one picture is there, and every other request has a reason in
rejected.csv. 2: the table, the run or an option is bad, or no request could be drawn.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.draw.command import check_choice, print_outcome, run_app
from pipeline.draw.finished_run import FinishedRun
from pipeline.draw.picture_files import FORMATS
from pipeline.draw.requests import MAX_CANDIDATES, MAX_SEED
from pipeline.terminal import say

NUM_SHOWN = 5  # reasons that are printed
OUT = Path("data/draw")

app = typer.Typer(add_completion=False)
Table = Annotated[Path, typer.Argument(help="CSV or Parquet file of requests; docs/draw.md explains its columns.")]
Out = Annotated[Path, typer.Option(help="Folder of the pictures and the manifest.")]
MethodName = Annotated[str, typer.Option(help="Method of requests that name none.")]
Candidates = Annotated[int, typer.Option(min=1, max=MAX_CANDIDATES, help="Pictures to choose from, for requests that do not say how many.")]
Seed = Annotated[int, typer.Option(min=-1, max=MAX_SEED, help="Seed of requests that name none; -1: the run's own.")]
FormatName = Annotated[str, typer.Option("--format", help=f"Format of the files: {', '.join(FORMATS)}.")]


@app.command()
def main(
    requests: Table,
    out: Out = OUT,
    method: MethodName = "ragar",
    candidates: Candidates = 1,
    seed: Seed = -1,
    picture_format: FormatName = "png",
) -> None:
    """Draw a table of requests from the finished run in this folder; nothing is trained, and what is there already is used again."""
    started = time.monotonic()
    run = FinishedRun()
    run.check()
    check_choice("--method", method, run.list_methods())
    check_choice("--format", picture_format, FORMATS)
    from pipeline.draw.run import draw_requests  # late: it loads torch, and a bad option is said at once

    defaults = run.build_defaults(method, seed=seed, num_candidates=candidates)
    outcome = draw_requests(requests, out, run, defaults, picture_format)
    for row in outcome.rejected[:NUM_SHOWN]:
        say(f"draw: row {row.number:,} is rejected: {row.reason}")
    print_outcome("draw", outcome, out, seconds=time.monotonic() - started)
    if not outcome.chosen:
        raise ValueError(f"no request of {requests} could be drawn; the reasons are in {out / 'rejected.csv'}.")


if __name__ == "__main__":
    run_app(app, "draw")
