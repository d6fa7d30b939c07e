"""`python -m experiments.launch exp run ...`: DVC, with its configuration files in UTF-8.

`dvc exp run --temp` writes the path of the cache into the temporary folder's configuration with configobj, which takes ASCII unless it is
told otherwise: no locale or variable changes that, so a repository in `/home/käthe/` could run no experiment.
"""

import sys
from functools import partialmethod

from configobj import ConfigObj


def main(arguments: list[str]) -> int:
    """Run DVC's command line and return its exit code."""
    from dvc.cli import main as run_dvc

    ConfigObj.__init__ = partialmethod(ConfigObj.__init__, default_encoding="utf-8")
    return run_dvc(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
