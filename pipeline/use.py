"""`make use`: choose a data set, models or values for this checkout, say what is chosen, or go back to the default (`--reset`).

`python -m pipeline.use [dataset=folder dataset.raw=/shop ... | --reset]`; all words may stand behind `--args` in one. What is chosen holds for
every command and for DVC's own, until it is chosen anew: see `pipeline/choice.py`.
"""

from __future__ import annotations

import sys

from pipeline.choice import RESET, Choice, change_choice, hold_choice, list_chosen, read_choice, read_defaults
from pipeline.compose import CONF, PARAMS, compose_params
from pipeline.endings import run_command
from pipeline.overrides import drop_setters, split_words
from pipeline.params import read_document
from pipeline.replaced_tables import describe_replaced
from pipeline.terminal import say


def main(arguments: list[str]) -> None:
    """Change what is chosen if there are words, compose the params anew, and say what holds now."""
    words = split_words(arguments)
    if RESET in words and len(words) > 1:
        raise ValueError(f"{RESET} stands alone: make use ARGS={RESET}, then make use ARGS='dataset=...'.")
    before = read_choice(CONF)
    if not words:
        say(*describe(before))
        return
    with hold_choice({} if words == [RESET] else change_choice(before, drop_setters(words), CONF), CONF):
        compose_params([])
    say(*describe(read_choice(CONF)), *describe_replaced(read_document(PARAMS), PARAMS.parent, conf=CONF))


def describe(choice: Choice) -> list[str]:
    """Return the lines that say what is chosen, and what that means to git."""
    options = read_defaults(CONF) | {name: value for name, value in choice.items() if "." not in name}
    if not choice:
        return [
            f"nothing is chosen: the data set is {options.get('dataset')}, params.yaml the default; choose with make use ARGS='dataset=folder'",
            "if git still shows dvc.lock as changed, it tells of another run: `make repro` or `git checkout dvc.lock` puts it right",
        ]
    return [
        f"chosen: {' '.join(list_chosen(choice))}",
        "it holds for every make target, and for dvc repro and dvc exp run, until you choose anew; -S in ARGS of one run comes on top of it",
        f"git shows params.yaml as changed meanwhile (and dvc.lock after a run); before git pull: make use ARGS={RESET} && git checkout dvc.lock",
    ]


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]), folders=[CONF, PARAMS])
