"""Compose `conf/` into `params.yaml`, exactly as `dvc exp run` does it, so that both write the same bytes.

`python -m pipeline.compose [dataset=small models=paper method=literal -S retrieval.k=7 ...]`: Hydra overrides may follow, or all of them in
one word behind `--args`, as the Makefile hands them on; `--without OPTION` before them leaves out another command's option and its value.
`--out FILE` before all writes another file, for commands that look and do not run: nothing else changes. Without it, the data set that is
named is chosen for the next runs too, and a sentence says whose tables the run will replace.
"""

import os
import sys
from pathlib import Path
from typing import Any

from pipeline.choice import change_choice, describe_choice, find_remembered, hold_choice, read_choice
from pipeline.endings import end_uncaught, run_command

if __name__ == "__main__":  # a package that is missing ends in a sentence too, and this is the first command that needs one
    sys.excepthook = end_uncaught

from pipeline.feasibility.blocks import check_given
from pipeline.override_errors import explain_override
from pipeline.overrides import clean_overrides, drop_setters, split_words, take_option
from pipeline.params import check_blocks, read_document
from pipeline.replaced_tables import describe_replaced
from pipeline.terminal import say
from pipeline.yaml_files import read_yaml_mapping

CONF = Path("conf")
PARAMS = Path("params.yaml")


def compose_params(overrides: list[str], *, conf: Path = CONF, out: Path = PARAMS) -> None:
    """Write the composed params to `out`; ValueError says which group, key or value is wrong, and leaves `out` as it was."""
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    for path in sorted(conf.rglob("*.yaml")):
        read_yaml_mapping(path)  # Hydra itself would copy what an anchor stands for at every alias
    draft = out.with_name(f".draft-{out.name}")
    try:
        compose_and_dump(draft, str(conf.resolve()), None, "config", None, clean_overrides(overrides))
        document = read_document(draft)
        check_blocks(document, where=out.name)
        check_paths(document)
        check_given(document, where=out.name)
        os.replace(draft, out)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain_override(" ".join(str(error).split()), conf)) from error
    except RecursionError as error:
        raise ValueError("an override is nested too deeply to be a parameter.") from error
    finally:
        draft.unlink(missing_ok=True)


def check_paths(document: dict[str, Any]) -> None:
    """Raise ValueError on a `~` in conf/, where nobody puts the home folder in its place: DVC composes these files too."""
    for name in ("dataset", "models"):
        for key, value in (document.get(name) or {}).items() if isinstance(document.get(name), dict) else ():
            if isinstance(value, str) and value.startswith("~"):
                raise ValueError(f"conf/{name}: {key} is {value}; only an override may begin with ~, in conf/ write {os.path.expanduser(value)}.")


def compose_for_run(overrides: list[str], *, conf: Path = CONF, out: Path = PARAMS) -> None:
    """Compose the params of runs in the workspace; the data set that they are about is chosen, and what a person should know is printed."""
    with hold_choice(change_choice(read_choice(conf), find_remembered(overrides), conf), conf):
        say(*describe_choice(read_choice(conf)))
        compose_params(overrides, conf=conf, out=out)
    say(*describe_replaced(read_document(out), out.parent, conf=conf))


def main(arguments: list[str]) -> None:
    """Compose the params of the working folder, or of a command that only looks."""
    out = Path(arguments[1]) if arguments[:1] == ["--out"] else None
    arguments = arguments[2:] if out else arguments
    left_out = arguments[1] if arguments[:1] == ["--without"] else ""
    words = split_words(arguments[2:] if left_out else arguments)
    overrides = drop_setters(take_option(words, left_out)[1] if left_out else words)
    if out is None:
        compose_for_run(overrides)
        return
    say(*describe_choice(read_choice(CONF)))
    out.parent.mkdir(parents=True, exist_ok=True)
    compose_params(overrides, out=out)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]), folders=[PARAMS])
