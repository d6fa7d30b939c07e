"""`python -m experiments.launch exp run ...`: DVC's command line, where people's folders have any letters and raw data of their own.

Four things that DVC does not do: 1. `exp run --temp` writes the path of the cache into the temporary folder's configuration with configobj, which
takes ASCII unless it is told otherwise: no locale or variable changes that, so a repository in `/home/käthe/` could run no experiment.
2. Paths among the overrides are written as Hydra reads them (`pipeline/overrides.py`). 3. A temporary or queued run works in a copy of the
commit, which lacks what git ignores: the raw files that its own params name are copied too, as links where the disk can. 4. The data set of
a run in the workspace is chosen for the next ones too, and a sentence says whose tables the run will replace.

`--args TEXT` behind the command holds further words, as the Makefile hands them on; `--planned` before it says that the copies are named.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any

from configobj import ConfigObj

from experiments.plan import compose_overrides, read_inputs
from pipeline.choice import change_choice, describe_choice, find_remembered, hold_choice, read_choice
from pipeline.dvc_command import KEPT, run_dvc
from pipeline.endings import run_command
from pipeline.overrides import HOW, SETTERS, clean_override, match_setter, split_words
from pipeline.replaced_tables import describe_replaced
from pipeline.terminal import say

SET = SETTERS[1]
PLANNED = "--planned"
ELSEWHERE = {"--temp", "--queue"}  # the options of a run that is not in the workspace


def main(arguments: Sequence[str]) -> int:
    """Run DVC's command line and return its exit code."""
    from dvc.repo.experiments.executor.base import BaseExecutor

    ConfigObj.__init__ = partialmethod(ConfigObj.__init__, default_encoding="utf-8")
    BaseExecutor._copy_path = staticmethod(copy_linked)
    if arguments[:1] == [PLANNED]:
        return run_dvc(clean_arguments(list(arguments[1:])))
    return run_dvc(complete(split_words(arguments), Path.cwd()))


def complete(arguments: list[str], root: Path) -> list[str]:
    """Return the arguments with readable overrides, and the copies that a run outside of the workspace needs; other commands as they are.

    ValueError on params that some stage would refuse, before the first one runs.
    """
    if arguments[:2] not in (["exp", "run"], ["experiments", "run"]):
        return arguments
    arguments = clean_arguments(arguments)
    if "--run-all" in arguments:
        return arguments
    conf, in_workspace = root / "conf", not ELSEWHERE & set(arguments)
    remembered = find_remembered(list_overrides(arguments)) if in_workspace else []
    with hold_choice(change_choice(read_choice(conf), remembered, conf), conf):
        say(*describe_choice(read_choice(conf)))
        composed = [compose_overrides(overrides, root) for overrides in list_sweeps(list_overrides(arguments))]
    if in_workspace:
        say(*describe_replaced(composed[0], root, conf=conf))
        return arguments
    given = {value for option, value in itertools.pairwise(arguments) if option in ("-C", "--copy-paths")}
    copies = [path for path in list_needed(composed, root) if path not in given]
    return [*arguments[:2], *(word for path in copies for word in ("--copy-paths", path)), *arguments[2:]]


def clean_arguments(arguments: list[str]) -> list[str]:
    """Write every override as Hydra reads it, each behind an option of its own; ValueError on one that was cut at a space."""
    cleaned: list[str] = []
    queued, words = "--queue" in arguments, iter(arguments)
    for word in words:
        option = match_setter(word)
        if option is None:
            cleaned.append(word)
            continue
        override = next(words, "") if word == option else word.removeprefix(option).removeprefix("=")
        cleaned += [SET, clean_override(override, queued=queued)]
    for option, word in itertools.pairwise(cleaned):
        if (
            not word.startswith("-")
            and ("=" in word or os.sep in word)
            and option not in (SET, "-C", "--copy-paths", "-n", "--name", "-m", "--message")
        ):
            raise ValueError(f"{word!r} stands alone; an override needs -S before it, and {HOW}.")
    return cleaned


def list_overrides(arguments: Sequence[str]) -> list[str]:
    """Return the overrides of cleaned arguments."""
    return [value for option, value in itertools.pairwise(arguments) if option == SET]


def list_sweeps(overrides: list[str]) -> list[list[str]]:
    """Return the overrides of every run that a sweep stands for, of one run without a sweep."""
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import get_hydra_sweeps

    sweeps = get_hydra_sweeps(to_path_overrides(overrides)) if overrides else [{}]
    return [list(sweep.get("params.yaml", ())) for sweep in sweeps]


def list_needed(composed: Sequence[dict[str, Any]], root: Path) -> list[str]:
    """Return what git does not hold of the inputs of runs with these params."""
    inputs = read_inputs(root)
    return list(dict.fromkeys(path for params in composed for path in inputs.add_named(params, root).copies))


def copy_linked(source: str, target: str) -> None:
    """Copy a file or folder into a temporary run, in the place of DVC's own function: runs only read it, so a second name of the file will do."""
    from dvc.exceptions import DvcException

    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, target, copy_function=link_or_copy, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        else:
            link_or_copy(source, target)
    except (OSError, shutil.Error) as error:
        raise DvcException(f"{source} cannot be copied to {target}: {error}") from error


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the disk has no links or is another one."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def run(arguments: Sequence[str]) -> None:
    """Run DVC, and end with its exit code."""
    if code := main(arguments):
        sys.exit(code)


if __name__ == "__main__":
    run_command(lambda: run(sys.argv[1:]), kept=KEPT)
