"""`make exps`: the experiments side by side, in columns that fit a screen; `python -m experiments.show [--sort-by ragar.delta_r ...]`.

`dvc exp show` alone has a column for each of some 300 params, metrics and hashes. Here are the main figures of the method that the others are
compared with, and those params in which the experiments differ; DVC's own options (`--csv`, `--sort-by`) may follow.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.dvc_command import run
from pipeline.endings import run_command
from pipeline.override_errors import walk_values
from pipeline.overrides import split_words
from pipeline.params import read_document, read_section

PARAMS = Path("params.yaml")
METRICS = ("style_accuracy", "concept_accuracy", "delta_r", "delta_r_check", "cps", "cpis", "cs", "cis")
HEADS = ("Experiment", "Created", "State", "Executor")  # DVC's own columns


def build_command(words: Sequence[str], *, main_method: str, params: Iterable[str]) -> list[str]:
    """Return the words for DVC; it puts the file before the name of a param or metric that two files have."""
    figures = rf"(.*:)?{re.escape(main_method)}\.({'|'.join(METRICS)})$"
    kept = rf"(params\.yaml:)?({'|'.join(map(re.escape, params))})$"
    return ["exp", "show", "--only-changed", "--keep", figures, "--drop", rf"(?!({'|'.join(HEADS)})$|{figures}|{kept})", *words]


def main(arguments: Sequence[str]) -> None:
    """Show the experiments of the working folder."""
    params = [name for name, _ in walk_values(read_document(PARAMS))]
    run(build_command(split_words(arguments), main_method=str(read_section(PARAMS, "evaluation.main_method")), params=params))


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
