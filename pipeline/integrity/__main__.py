"""`python -m pipeline.integrity lock`, `outs [STAGE ...]` or `verify`: what the Makefile calls before, after and instead of DVC."""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.endings import run_command
from pipeline.integrity.hashes import find_mismatches
from pipeline.integrity.lock import read_outs
from pipeline.integrity.verify import set_broken_claims_aside, set_broken_lock_aside, set_illegible_runs_aside, verify

app = typer.Typer(add_completion=False)


@app.command("lock")
def check_lock() -> None:
    """Move aside what would stop DVC: dvc.lock and its list of running commands if it was killed while writing them, runs that are no text."""
    set_broken_lock_aside(Path.cwd())
    set_broken_claims_aside(Path.cwd())
    set_illegible_runs_aside(Path.cwd())


@app.command("outs")
def check_outs(stages: list[str] = typer.Argument(None)) -> None:
    """Compare the outs of all or of the named stages with dvc.lock: DVC has not looked into files whose time and size are the old ones."""
    root = Path.cwd()
    outs = [out for out in read_outs(root) if not stages or out.stage.partition("@")[0] in stages or out.stage in stages]
    if mismatches := find_mismatches(outs, root):
        names = ", ".join(mismatch.out.path for mismatch in mismatches)
        raise ValueError(f"not what dvc.lock says: {names}; damaged, or changed by hand. `make verify` makes them again.")


@app.command("verify")
def verify_all() -> None:
    """Check all that DVC keeps, and mend it."""
    verify(Path.cwd())


if __name__ == "__main__":
    run_command(app, kept="the same command goes on from there")
