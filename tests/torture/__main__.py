"""Kill and damage a finished small run many times: nothing may differ silently. Run: make torture (about an hour on two cores)

Every start after a kill, and every command that reads a flipped byte, must end with the bytes of the finished run, or name the one command
after which they are there again. Exit code 1 if one did not.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import typer

from pipeline.endings import run_command
from pipeline.work import work_dir
from tests.small_project import SmallProject
from tests.torture.flips import flip_once
from tests.torture.kills import kill_once
from tests.torture.tally import Tally
from tests.torture.victim import Victim, make_finished

app = typer.Typer(add_completion=False)


@app.command()
def torture(
    kills: int = typer.Option(100, help="how many kills"),
    flips: int = typer.Option(100, help="how many flipped bytes"),
    seed: int = typer.Option(0, help="decides what is killed when, and which byte is flipped"),
    minutes: float = typer.Option(0, help="begin nothing new after so many minutes; 0: no limit"),
    finished: Path = typer.Option(None, help="folder of the finished run, made there if need be; else a temporary one"),
) -> None:
    """Kill and flip, print the table, and end with 1 on any failure."""
    deadline = time.monotonic() + minutes * 60 if minutes else float("inf")
    tally = Tally()
    work_dir().mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="torture-", dir=work_dir()) as folder:
            base = make_finished(finished or Path(folder))
            copies = (Path(folder) / f"copy-{number}" for number in range(kills + flips + 2))
            if kills:
                once = partial(kill_once, seconds=Victim(base).measure(), draw=random.Random(f"{seed} kills"), tally=tally)
                repeat(lambda victim, _: once(victim), kills, base, copies, tally, deadline)
            draw = random.Random(f"{seed} flips")
            repeat(lambda victim, number: flip_once(victim, number, draw, tally), flips, base, copies, tally, deadline)
    finally:  # an interrupted campaign has judged something too
        print(tally.write())
        for failure in tally.failures:
            print(f"\nFAILURE {failure}")
    sys.exit(bool(tally.failures))


def repeat(once: Callable[[Victim, int], None], count: int, base: SmallProject, copies: object, tally: Tally, deadline: float) -> None:
    """Do it so often; after a failure, and after an error of this program, on a new copy."""
    victim = None
    for number in range(count):
        if time.monotonic() > deadline:
            print(f"out of time after {number} of {count}", flush=True)
            return
        num_failures = len(tally.failures)
        victim = victim or Victim(base.copy(next(copies)))
        once(victim, number)
        if len(tally.failures) > num_failures:
            victim = None


if __name__ == "__main__":
    run_command(app)
