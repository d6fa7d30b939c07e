"""How far can one trust what the manifest says? Two figures, from a finished run.

`python -m pipeline.draw.measure users`: what the vectors of new users are worth, beside the trained ones of users whom the run knows.
`python -m pipeline.draw.measure flag --split val`: how often the advice to keep the original is right, where the data set knows the right answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.draw.command import check_choice, run_app
from pipeline.draw.finished_run import FinishedRun
from pipeline.terminal import say

SPLITS = ("train", "val", "test")

app = typer.Typer(add_completion=False)
Split = Annotated[str, typer.Option(help="Whose pictures are judged; those of users outside of `test` are drawn first.")]
Methods = Annotated[list[str], typer.Option("--method", help="A method whose pictures are judged; may be repeated.")]
Out = Annotated[Path | None, typer.Option(help="CSV file for the figures, besides the printed lines.")]


@app.command()
def users(out: Out = None) -> None:
    """Print R@10 of held-out items and the agreement of rankings, by kind of vector."""
    run = FinishedRun()
    run.check()
    from pipeline.draw.user_check import measure_users  # late: it loads torch

    publish(measure_users(run), out)


@app.command()
def flag(split: Split = "val", methods: Methods = ["ragar", "keywords", "sd"], out: Out = None) -> None:  # noqa: B006
    """Print how often the flag is right, by method."""
    run = FinishedRun()
    run.check()
    check_choice("--split", split, SPLITS)
    for method in methods:
        check_choice("--method", method, run.list_methods())
    from pipeline.draw.flag_check import measure_flag  # late: it loads torch

    publish(measure_flag(run, split, methods), out)


def publish(rows: Sequence[dict[str, object]], out: Path | None) -> None:
    """Print rows of figures, and write them."""
    for row in rows:
        say(", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()))
    if out is not None:
        from pipeline.spreadsheets import write_csv

        write_csv(out, rows, list(rows[0]))


if __name__ == "__main__":
    run_app(app, "measure")
