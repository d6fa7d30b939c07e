"""The command of `make study`: `python -m pipeline.study [--method original --method pmg --method ragar] [--cases 50] [--groups 1] [--out FOLDER]`.

From the finished run in this folder it makes a page for every group of participants (`pages/`), and the key, without which ballots say nothing
(`key.json`, for nobody's eyes who takes part). docs/study.md says how a study is held.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.draw.command import check_choice, run_app
from pipeline.draw.finished_run import FinishedRun
from pipeline.files import write_bytes
from pipeline.params import read_section
from pipeline.study.key import KEY, write_key
from pipeline.study.material import HISTORIES, RECENT, read_material
from pipeline.study.page import build_page
from pipeline.study.pictures import MEGABYTE, build_pictures
from pipeline.study.power import write_plan
from pipeline.study.questions import build_study
from pipeline.terminal import say

METHODS = ("original", "pmg", "ragar")  # of the paper's Table 3
OUT = Path("data/study")

app = typer.Typer(add_completion=False)
Out = Annotated[Path, typer.Option(help="Folder of the pages and their key.")]
Methods = Annotated[list[str], typer.Option("--method", help="A method to be ranked; repeat it for more. By default original, pmg, ragar.")]
Cases = Annotated[int, typer.Option(min=1, max=500, help="Cases that every group is asked about, in both tasks; fewer if the run has fewer.")]
Groups = Annotated[int, typer.Option(min=1, max=100, help="Groups of participants: each has a page and, if the run has enough, cases of its own.")]
SameCases = Annotated[bool, typer.Option("--same-cases", help="All groups are asked about the same cases.")]
Participants = Annotated[int, typer.Option(min=1, max=100_000, help="Participants that the study is planned for, in all groups together.")]
Checks = Annotated[int, typer.Option(min=0, max=20, help="Attention checks in each task.")]
History = Annotated[str, typer.Option(help="Which five items of the history are shown: recent, or retrieved (those that RAGAR has read).")]
Seed = Annotated[int, typer.Option(min=-1, max=2**31 - 1, help="Seed of cases and orders; -1: the run's own.")]
Megabytes = Annotated[float, typer.Option("--max-megabytes", min=0.1, max=100, help="What a page may weigh; pictures are made smaller to fit.")]


@app.command()
def main(
    out: Out = OUT,
    methods: Methods = [],  # noqa: B006
    cases: Cases = 50,
    groups: Groups = 1,
    same_cases: SameCases = False,
    participants: Participants = 50,
    checks: Checks = 2,
    history: History = RECENT,
    seed: Seed = -1,
    max_megabytes: Megabytes = 15.0,
) -> None:
    """Make the pages of a human study from the finished run in this folder."""
    run = FinishedRun()
    run.check()
    chosen = tuple(dict.fromkeys(methods or METHODS))
    for method in chosen:
        check_choice("--method", method, run.list_methods())
    check_choice("--history", history, HISTORIES)
    if len(set(chosen) - {"original"}) < 2:
        raise ValueError(f"--method names {', '.join(chosen)}, but two beside `original` are needed: one alone cannot be ranked by its meaning.")
    seed = run.seed if seed < 0 else seed
    material = read_material(run, chosen, num_cases=cases * (1 if same_cases else groups), history=history, seed=seed)
    facts = {
        "dataset": read_section(run.params, "dataset.name"),
        "profile": read_section(run.params, "models.profile"),
        "seed": seed,
        "history": history,
        "num_participants": participants,
    }
    key, sheets = build_study(material, chosen, num_groups=groups, same_cases=same_cases, num_checks=checks, seed=seed, facts=facts)
    pages = {}
    for sheet in sheets:
        pictures = build_pictures(sheet, material, max_bytes=int(max_megabytes * MEGABYTE))
        pages[out / "pages" / f"group-{sheet.group}.html"] = build_page(key.study, sheet, pictures).encode()
    write_key(out / KEY, key)
    for path, page in pages.items():
        write_bytes(path, page)
        say(f"study: {path}, {len(page) / MEGABYTE:.1f} MB")
    num_cases = len(key.list_cases()) if same_cases else len(key.list_cases()) // groups
    say(f"study: {num_cases} cases a group, {len(sheets[0].questions)} questions a participant; ballots are read with {out / KEY}: give it to nobody")
    write_plan(out / "power.csv", key, num_cases=num_cases)


if __name__ == "__main__":
    run_app(app, "study", kept="nothing half written is left, the same command makes the pages anew")
