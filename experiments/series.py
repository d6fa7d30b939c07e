"""Run a series of runs one after the other; what is finished is never run again, and one failure does not stop the rest.

Each run is `dvc exp run --temp`: DVC works in a temporary folder and stores the result under the run's name, so the workspace stays
as it is. Stages that another run has finished come from the run cache, and `DVC_ROOT` is the parent repository there, so that
unfinished rows and checkpoints (`.work/`) are shared too and an interrupted stage goes on where it was. No `--force`: it would turn
the run cache off, and a name that holds a content hash is never taken by other work.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.plan import TARGET, Plan
from pipeline.endings import Stopped
from pipeline.terminal import say
from pipeline.work import work_dir

# the lines of a log that a person wants to see
SHOWN = re.compile(r"(Running stage '|Stage '|stage \d+ of \d+: |WARNING: the GPU|[Ee]rror: |ERROR: |[a-z@_]+: \d+ rows in, )")
STAGE_VARIABLES = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")  # set by DVC for a stage, wrong for a run


@dataclass(frozen=True)
class Outcome:
    """What became of a run: `kept` was there before, `made` is new."""

    plan: Plan
    status: Literal["kept", "made", "failed"]
    seconds: float = 0.0


def run_series(
    plans: Sequence[Plan],
    *,
    find: Callable[[str], str | None],
    execute: Callable[[Plan], int],
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Execute the plans that `find` (fingerprint -> name) does not know, in order, and return the outcome of all."""
    outcomes: list[Outcome] = []
    for place, plan in enumerate(plans, start=1):
        head = f"[{place}/{len(plans)}] {plan.run.name}"
        if name := find(plan.fingerprint):
            say(f"{head}: finished before, as {name}")
            outcomes.append(Outcome(plan, "kept"))
            continue
        say(f"{head}: running {' '.join(plan.run.overrides) or 'the default'} as {plan.experiment}")
        started = clock()
        code = execute(plan)
        seconds = clock() - started
        if code == 0 and find(plan.fingerprint):
            say(f"{head}: done in {format_seconds(seconds)}")
            outcomes.append(Outcome(plan, "made", seconds))
        else:
            reason = f"exit code {code}" if code else "it ended without an experiment"
            say(f"{head}: FAILED after {format_seconds(seconds)} ({reason}), see {get_log(plan.experiment)}; the other runs go on")
            outcomes.append(Outcome(plan, "failed", seconds))
    return outcomes


def build_command(plan: Plan) -> list[str]:
    """Build the command of a run."""
    command = [sys.executable, "-m", "experiments.launch", "--planned", "exp", "run", "--temp", "--name", plan.experiment]
    for path in plan.copies:
        command += ["--copy-paths", path]
    for override in plan.run.overrides:
        command += ["--set-param", override]
    return [*command, TARGET]


def build_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run: this Python first on the path, fixed hashing, nothing of a surrounding stage."""
    kept = {name: value for name, value in base.items() if name not in STAGE_VARIABLES}
    folder = str(Path(sys.executable).parent)
    return {**kept, "PATH": os.pathsep.join([folder, *filter(None, [base.get("PATH")])]), "PYTHONHASHSEED": "0"}


def execute_plan(plan: Plan, *, root: Path) -> int:
    """Run a plan to its end: all output goes to its log, the stages and errors to the terminal too; return the exit code."""
    log = get_log(plan.experiment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as file,  # an attempt that failed stays readable, and so do the seconds of its stages
        subprocess.Popen(
            build_command(plan),
            cwd=root,
            env=build_environment(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                if SHOWN.match(line):
                    say(f"    {line.rstrip()}")
        except (KeyboardInterrupt, Stopped) as error:
            if getattr(error, "code", None) == 128 + signal.SIGTERM:
                process.terminate()
            process.wait()  # DVC got Ctrl-C too: let it clean up, or the next series would meet its locks
            raise
    return process.returncode


def get_log(experiment: str) -> Path:
    """Return the file that holds everything a run has printed, by its experiment's name."""
    return work_dir() / "experiments" / f"{experiment}.log"


def format_seconds(seconds: float) -> str:
    """Write a duration for people: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
