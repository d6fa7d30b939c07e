"""Where finished work outlives a crash: `$DVC_ROOT/.work/<name>/<key>/`. The only module that knows `.work/`.

DVC deletes a stage's outs before it runs, so finished rows and checkpoints are kept outside of them. The key is a hash of the code that
computes them and of everything else that decides them: nothing can be opened without either, so what older code or other inputs made is
never found again. Old keys are collected.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.code import hash_code
from pipeline.fingerprint import compute_fingerprint
from pipeline.locks import lock_folder

CHANGES_NO_RESULT = True
KEPT_KEYS = 8  # newest folders of a name that survive collection


def work_dir() -> Path:
    """Return the folder of unfinished and reusable work: `.work` in `$DVC_ROOT` (the parent repository in temporary runs) or here."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".work"


@contextlib.contextmanager
def open_work(name: str, *, code: Sequence[Any], inputs: object) -> Iterator[Path]:
    """Open the folder of `name` for one process; a second process gets a clear error.

    `code` names the functions or classes that compute what is kept: they, their modules and all that these import are part of the key.
    `inputs` is everything else that decides it and is not part of a row, such as params, model revisions and the seed.
    """
    folder = work_dir() / name.replace("@", "/") / compute_fingerprint(hash_code(*code), inputs)[:32]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)  # marks it as in use: collection keeps the newest
    with lock_folder(folder):
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        collect_old(folder)
        yield folder


def collect_old(folder: Path) -> None:
    """Remove the oldest keys beside `folder` beyond the newest KEPT_KEYS; other processes may be doing the same."""
    siblings = sorted((path for path in folder.parent.iterdir() if path.is_dir()), key=read_time, reverse=True)
    for path in siblings[KEPT_KEYS:]:
        with contextlib.suppress(ValueError, FileNotFoundError), lock_folder(path):
            shutil.rmtree(path)


def read_time(path: Path) -> float:
    """Return when a folder was last in use; one that another process has removed counts as the oldest."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
