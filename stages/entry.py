"""Run a stage from the command line: quiet libraries, and bad input as one clear sentence instead of a traceback."""

import sys

import typer

from pipeline.runtime import setup_logging


def run_stage(app: typer.Typer) -> None:
    """Run the typer app; a ValueError (bad params or data) ends the process with one line on stderr and exit code 1."""
    setup_logging()
    try:
        app()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
