"""Run experiments and write their tables and plots: `python -m experiments [fig2 fig5 ...]`, all of them without a name.

Most options only leave something out: `--collect` reads what is finished and runs nothing, `--dry-run` only says what is missing,
`--plots-only` draws the plots again from the CSV files that are there. `--rerun` runs here what is on record but was made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import typer
from pathvalidate import sanitize_filename

from experiments import comparison_page
from experiments.catalogue import EXPERIMENTS, Experiment, get_experiment, list_runs
from experiments.comparison import compare_methods
from experiments.entry import OUT, find_root, run_app
from experiments.plan import Plan, has_changes, list_unique, plan_runs, read_inputs
from experiments.plots import draw_experiment
from experiments.pooling import pool_results
from experiments.records import FOLDER, Records
from experiments.results import RunResult
from experiments.runs import DEFAULT
from experiments.series import Outcome, execute_plan, run_series
from experiments.tables import CSV_COLUMNS, build_page, build_rows, list_csv_rows, read_csv_rows
from pipeline.choice import change_choice, describe_choice, list_chosen, read_choice
from pipeline.files import write_bytes
from pipeline.locks import lock_folder
from pipeline.memory import explain_killed, take_killed
from pipeline.spreadsheets import write_csv
from pipeline.terminal import say
from pipeline.work import work_dir

app = typer.Typer(add_completion=False)


@app.command()
def main(
    names: list[str] = typer.Argument(None),
    settings: list[str] = typer.Option([], "--set"),
    collect: bool = False,
    dry_run: bool = False,
    plots_only: bool = False,
    rerun: bool = False,
) -> None:
    """Run what is missing of the named experiments, one run after the other, and write docs/results/.

    `--set dataset=pog --set models=paper` adds overrides to every run, for another data set or profile than the default or the chosen one.
    """
    root = find_root()
    chosen = [get_experiment(name) for name in names] if names else list(EXPERIMENTS)
    say(*describe_choice(read_choice(root / "conf")))
    out = root / OUT / name_folder(settings, root)
    if plots_only:
        for experiment in chosen:
            redraw(experiment, out)
        return
    inputs = read_inputs(root)
    runs = [replace(run, overrides=(*run.overrides, *settings)) for run in list_runs(chosen)]
    plans = plan_runs(runs, inputs, root=root)
    records = Records(out / FOLDER, root, rerun)
    if dry_run:
        print_missing(plans, records)
        return
    outcomes = [] if collect else run_missing(list_unique(plans), records)
    results = records.read(plans)
    for experiment in chosen:
        write_experiment(experiment, results, out)
    records.drop_older(plans)
    for stage in take_killed():
        say(f"    {explain_killed(stage)}")
    failed = [outcome.plan.run.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise ValueError(f"{len(failed)} of {len(outcomes)} runs failed: {', '.join(failed)}. The same command tries them again, and only them.")


def name_folder(settings: Sequence[str], root: Path) -> str:
    """Return the folder in docs/results/ for results under these settings and what `make use` has chosen; empty for the default."""
    choice = read_choice(root / "conf")
    words = list_chosen(change_choice(choice, settings, root / "conf")) if choice else settings
    return sanitize_filename("_".join(word.replace("=", "-") for word in words), replacement_text="-")


def run_missing(plans: Sequence[Plan], records: Records) -> list[Outcome]:
    """Run the plans that are not finished; only one series at a time."""
    if has_changes(records.root):
        say("note: there are uncommitted changes. They are part of the runs, and DVC stashes them for a moment at the start of each.")
    folder = work_dir() / "experiments"
    folder.mkdir(parents=True, exist_ok=True)

    def execute(plan: Plan) -> int:
        return execute_plan(plan, root=records.root)

    with lock_folder(folder):
        return run_series(plans, find=records.keep, execute=execute, say=say)


def print_missing(plans: Sequence[Plan], records: Records) -> None:
    """Say of every run whether it is finished."""
    unique = list_unique(plans)
    found = {plan.fingerprint: records.find(plan.fingerprint) for plan in unique}
    for plan in unique:
        name = found[plan.fingerprint]
        say(f"{'finished' if name else 'missing '}  {name or plan.experiment}  {' '.join(plan.run.overrides)}".rstrip())
    say(f"{list(found.values()).count(None)} of {len(unique)} runs are missing")


def write_experiment(experiment: Experiment, results: Mapping[str, RunResult], out: Path) -> None:
    """Write the page, the CSV and the plot of an experiment from the results by run name; nothing if no run is finished."""
    own = {run.name: results[run.name] for run in experiment.list_runs() if run.name in results}
    if experiment.is_comparison and own:
        write_comparison(experiment, pool_results(experiment, own), out)
        return
    rows = build_rows(experiment, own)
    if not rows:
        say(f"{experiment.name}: no run is finished, nothing to write")
        return
    default = own[DEFAULT.name].experiment if DEFAULT.name in own else ""
    write_csv(out / f"{experiment.name}.csv", list_csv_rows(rows), CSV_COLUMNS)
    write_bytes(out / f"{experiment.name}.svg", draw_experiment(experiment, rows, default=default).encode())
    write_bytes(out / f"{experiment.name}.md", build_page(experiment, rows, own).encode())
    say(f"{experiment.name}: {len(own)} of {len(experiment.list_runs())} runs in {OUT / experiment.name}.md")


def redraw(experiment: Experiment, out: Path) -> None:
    """Draw the plot of an experiment again from its CSV file; nothing where there is none, or no plot."""
    path = out / f"{experiment.name}.csv"
    if experiment.is_comparison or not path.is_file():
        return
    rows = read_csv_rows(experiment, path)
    default = next((row.experiment for row in rows if row.experiment.startswith(f"ragar-{DEFAULT.name}-")), "")
    write_bytes(path.with_suffix(".svg"), draw_experiment(experiment, rows, default=default).encode())
    say(f"{experiment.name}: drawn from {path.name}")


def write_comparison(experiment: Experiment, result: RunResult, out: Path) -> None:
    """Print the table of a comparison, and write its page, CSV and LaTeX."""
    cells = compare_methods(experiment, result)
    page = comparison_page.build_page(experiment, result, cells)
    write_csv(out / f"{experiment.name}.csv", comparison_page.list_csv_rows(result, cells), comparison_page.CSV_COLUMNS)
    write_bytes(out / f"{experiment.name}.tex", comparison_page.build_latex(experiment, result, cells).encode())
    write_bytes(out / f"{experiment.name}.md", page.encode())
    say(*page.splitlines())


if __name__ == "__main__":
    run_app(app)
