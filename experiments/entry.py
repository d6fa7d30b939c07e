"""What both command lines share: where they run, where they write, and errors as one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from pipeline.endings import run_command
from pipeline.overrides import split_words

OUT = Path("docs/results")
KEPT = "finished runs are kept, the same command goes on with the rest"


def find_root() -> Path:
    """Return the repository's root, which must be the working folder; ValueError elsewhere."""
    root = Path.cwd()
    if not (root / "dvc.yaml").is_file() or not (root / "conf").is_dir():
        raise ValueError(f"{root} holds no dvc.yaml and conf/; run this in the repository's root.")
    return root


def run_app(app: typer.Typer) -> None:
    """Run a command line; whatever goes wrong is one line, see `run_command`."""

    def run() -> None:
        sys.argv[1:] = split_words(sys.argv[1:])
        app()

    run_command(run, kept=KEPT, folders=[OUT])
