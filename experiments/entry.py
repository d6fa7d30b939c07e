"""What both command lines share: where they run, where they write, and errors as one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

OUT = Path("docs/results")


def find_root() -> Path:
    """Return the repository's root, which must be the working folder; ValueError elsewhere."""
    root = Path.cwd()
    if not (root / "dvc.yaml").is_file() or not (root / "conf").is_dir():
        raise ValueError(f"{root} holds no dvc.yaml and conf/; run this in the repository's root.")
    return root


def run_app(app: typer.Typer) -> None:
    """Run a command line; a ValueError ends the process with one sentence and exit code 1."""
    try:
        app()
    except ValueError as error:
        sys.exit(f"error: {error}")
