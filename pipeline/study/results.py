"""The command of `make study-results`: `python -m pipeline.study.results [BALLOTS ...] [--key FILE] [--out FOLDER] [--stand-in]`.

Reads the ballots that participants have sent back (files, or folders of them; nobody is trusted) and writes Table 3. With --stand-in no ballots
are read, and models take the participants' place. Exit code 2: no ballot counts, or the key, the run or an option is bad.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline.draw.command import run_app
from pipeline.draw.finished_run import FinishedRun
from pipeline.files import write_bytes
from pipeline.json_files import write_json
from pipeline.spreadsheets import write_csv
from pipeline.study.analysis import Column, analyse
from pipeline.study.ballots import Ballot, Returned, read_ballots
from pipeline.study.key import KEY, Key, read_key
from pipeline.study.stand_in import collect_stand_in
from pipeline.study.table import (
    FIGURE_COLUMNS,
    PAIR_COLUMNS,
    POWER_COLUMNS,
    Turnout,
    build_page,
    get_name,
    list_figures,
    list_pairs,
    list_powers,
)
from pipeline.study.tasks import TASKS
from pipeline.study.votes import collect_votes
from pipeline.terminal import say

FOLDER = Path("data/study")
NUM_SHOWN = 5  # reasons that are printed

app = typer.Typer(add_completion=False)
Files = Annotated[list[Path], typer.Argument(help="Ballots, or folders of them; by default the folder `ballots` beside the key.")]
KeyFile = Annotated[Path, typer.Option("--key", help="The key that `make study` has written beside the pages.")]
Out = Annotated[Path, typer.Option(help="Folder of the table; by default `results` or `stand-in` beside the key.")]
MaxFailed = Annotated[int, typer.Option(min=0, max=100, help="Attention checks that a ballot may fail and still count.")]
StandIn = Annotated[bool, typer.Option("--stand-in", help="Let the evaluation ranker and the judge take the participants' place.")]


@app.command()
def main(
    ballots: Files = [],  # noqa: B006
    key_file: KeyFile = FOLDER / KEY,
    out: Out = Path(),
    max_failed: MaxFailed = 1,
    stand_in: StandIn = False,
) -> None:
    """Write Table 3 from ballots, or from models in the participants' place."""
    key = read_key(key_file)
    out = out if out != Path() else key_file.parent / ("stand-in" if stand_in else "results")
    if stand_in:
        if ballots:
            raise ValueError(f"--stand-in reads no ballots, but {ballots[0]} is named; leave one of the two out.")
        run = FinishedRun()
        run.check()
        columns = [analyse(rater.task, votes, seed=key.seed, rater=rater.name) for rater, votes in collect_stand_in(run, key, seed=key.seed)]
        write_results(out, key, columns, None)
        return
    returned = read_ballots(ballots or [key_file.parent / "ballots"], key, max_failed=max_failed)
    write_not_counted(out, returned)
    if not returned.counted:
        raise ValueError(f"no ballot counts; the reasons are in {out / 'not_counted.csv'}.")
    columns = [analyse(task, collect_votes(task, returned.counted, key), seed=key.seed) for task in TASKS]
    write_results(out, key, columns, describe_turnout(returned, key))


def write_not_counted(out: Path, returned: Returned) -> None:
    """Write and say which files do not count, and why."""
    left_out = [*returned.refused, *returned.inattentive]
    write_csv(out / "not_counted.csv", [dataclasses.asdict(row) for row in left_out], ("file", "reason"))
    for row in left_out[:NUM_SHOWN]:
        say(f"study-results: {row.file} does not count: {row.reason}")


def describe_turnout(returned: Returned, key: Key) -> Turnout:
    """Count the ballots by what became of them, and look at how those that count were filled in."""
    minutes = [sum(answer.seconds for answer in ballot.answers) / 60 for ballot in returned.counted]
    first, expected = measure_first_shown(returned.counted, key)
    counts = (len(rows) for rows in (returned.counted, returned.inattentive, returned.refused))
    return Turnout(*counts, float(np.median(minutes)), first, expected)


def measure_first_shown(ballots: Sequence[Ballot], key: Key) -> tuple[float, float]:
    """Return how often the picture shown first was put first, checks apart, and how often it would be if its place on the screen did not matter."""
    answers = [answer for ballot in ballots for answer in ballot.answers if not key.groups[ballot.group][answer.question].is_check]
    first = np.mean([answer.shown[0] == answer.order[0] for answer in answers])
    return float(first), float(np.mean([1 / len(answer.order) for answer in answers]))


def write_results(out: Path, key: Key, columns: Sequence[Column], turnout: Turnout | None) -> None:
    """Write the page and the files beside it, and say the mean ranks."""
    write_bytes(out / "table3.md", build_page(key, columns, turnout).encode())
    write_csv(out / "table3.csv", list_figures(columns), FIGURE_COLUMNS)
    write_csv(out / "pairs.csv", list_pairs(columns), PAIR_COLUMNS)
    write_csv(out / "power.csv", list_powers(columns), POWER_COLUMNS)
    facts = {"is_stand_in": turnout is None, "study": key.study, "turnout": dataclasses.asdict(turnout) if turnout else None}
    write_json(out / "table3.json", facts | {"columns": [dataclasses.asdict(column) for column in columns]})
    for column in columns:
        ranks = ", ".join(f"{get_name(method)} {interval.value:.2f}" for method, interval in column.means.items())
        by = f"{column.num_participants} participants" if turnout else "a model in the participants' place"
        say(f"study-results: mean ranks, {column.title}: {ranks} ({by}, {column.num_cases} cases)")
    say(f"study-results: {out / 'table3.md'}")


if __name__ == "__main__":
    run_app(app, "study-results", kept="ballots are left as they are, the same command reads them anew")
