"""What the command lines of this package share: how they start, check their options and end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads, as for the stages
os.environ.setdefault("TQDM_DISABLE", "1")

import typer

from pipeline.allocator import keep_freed_memory
from pipeline.endings import run_command
from pipeline.memory import note_running
from pipeline.overrides import split_words
from pipeline.runtime import setup_logging
from pipeline.terminal import say
from pipeline.work import work_dir

if TYPE_CHECKING:
    from pipeline.draw.delivery import Outcome

KEPT = "finished pictures are kept, the same command goes on from there"


def run_app(app: typer.Typer, name: str, kept: str = KEPT) -> None:
    """Run a command on the words that it was given; whatever goes wrong is one line, see `run_command`."""
    setup_logging()
    keep_freed_memory()

    def run() -> None:
        sys.argv[1:] = split_words(sys.argv[1:])
        with note_running(name):
            app()

    run_command(run, kept=kept, folders=[work_dir()], stage="generation")


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError if an option's value is not one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{option} is {value!r}, but it must be one of: {', '.join(allowed)}.")


def print_outcome(command: str, outcome: Outcome, out: Path, *, seconds: float) -> None:
    """Print the closing line, and a note about pictures that are not of this table."""
    if outcome.strangers:
        say(f"{command}: note: {len(outcome.strangers):,} pictures in {out} are not in its manifest, e.g. {outcome.strangers[0]}")
    kept = f", {outcome.num_kept:,} of them with the advice to keep the original" if outcome.num_kept else ""
    rejected = f", {len(outcome.rejected):,} rejected (rejected.csv)" if outcome.rejected else ""
    say(f"{command}: {outcome.num_requests:,} requests, {len(outcome.chosen):,} pictures in {out}{kept}{rejected}, {seconds:.1f} s")
