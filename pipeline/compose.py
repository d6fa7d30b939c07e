"""Compose `conf/` into `params.yaml`, exactly as `dvc exp run` does it, so that both write the same bytes.

`python -m pipeline.compose [dataset=small models=paper method=literal retrieval.k=7 ...]`: Hydra overrides may follow, or all of them in one
word behind `--args`, as the Makefile hands them on; `--without OPTION` before them leaves out another command's option and its value.
"""

import os
import sys
from pathlib import Path
from typing import Any

from pipeline.endings import end_uncaught, run_command

if __name__ == "__main__":  # a package that is missing ends in a sentence too, and this is the first command that needs one
    sys.excepthook = end_uncaught

from pipeline.feasibility.blocks import check_given
from pipeline.override_errors import explain_override
from pipeline.overrides import clean_overrides, split_words, take_option
from pipeline.params import check_blocks, read_document
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


def main(arguments: list[str]) -> None:
    """Compose the params of the working folder."""
    left_out = arguments[1] if arguments[:1] == ["--without"] else ""
    words = split_words(arguments[2:] if left_out else arguments)
    compose_params(take_option(words, left_out)[1] if left_out else words)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]), folders=[PARAMS])
