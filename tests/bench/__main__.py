"""`make bench`: captioning, embedding, keywords and drawing beside per-item loops over the same models, into docs/results/bench.md.

`make bench ARGS='--rows 128 --repetitions 10'`. Rows that fill no batch count against the pipeline, which fills it up with copies.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import typer

from pipeline.allocator import keep_freed_memory
from pipeline.endings import run_command
from pipeline.files import write_bytes
from pipeline.runtime import setup_logging
from pipeline.terminal import say
from pipeline.work import work_dir
from tests.bench.arithmetic import measure_peak
from tests.bench.campaign import run_campaign
from tests.bench.contests import build_contests
from tests.bench.lots import read_default_run
from tests.bench.models import read_setting
from tests.bench.page import write_page

app = typer.Typer(add_completion=False)


@app.command()
def main(
    rows: int = typer.Option(128, min=1),
    repetitions: int = typer.Option(10, min=1),
    threads: int = typer.Option(0, min=0, help="0: as many as torch takes"),
    out: Path = Path("docs/results/bench.md"),
    params: Path = Path("params.yaml"),
) -> None:
    """Measure and write the page."""
    if threads:
        torch.set_num_threads(threads)
    run, setting = read_default_run(params), read_setting(params, torch.device("cpu"))
    if rows * (repetitions + 1) > len(run.rows):
        needed = f"{rows} rows x ({repetitions} repetitions + a warm-up)"
        raise ValueError(f"{needed} are {rows * (repetitions + 1):,} items, but the data set has {len(run.rows):,}; lower --rows or --repetitions.")
    contests, dtypes = build_contests(setting), {setting.dtype, setting.language_dtype}
    before = {dtype: measure_peak(dtype) for dtype in dtypes}
    work_dir().mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=work_dir()) as folder:
        measured = run_campaign(contests, run.rows, Path(folder), rows=rows, repetitions=repetitions)
    by_dtype = {dtype: max(before[dtype], measure_peak(dtype)) for dtype in dtypes}
    peaks = {contest.name: by_dtype[setting.language_dtype if "keywords" in contest.name else setting.dtype] for contest in contests}
    command = f"make bench ARGS='--rows {rows} --repetitions {repetitions}{f' --threads {threads}' if threads else ''}'"
    page = write_page(measured, run.weights, peaks, command=command)
    write_bytes(out, page.encode())
    say(*page.splitlines())


if __name__ == "__main__":
    setup_logging()
    keep_freed_memory()  # as every stage does
    run_command(app)
