"""Finished experiments in git and DVC's cache: find them by fingerprint and read their files, without touching the workspace."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.plan import HASH_LENGTH
from pipeline.integrity.hashes import hash_file

# DVC's layout of an experiment's ref: the commit below it in two parts, then its name; refs of its own bookkeeping look different
REF = re.compile(rf"refs/exps/[0-9a-f]{{2}}/[0-9a-f]{{38,}}/(?P<name>ragar-[^/]+-(?P<fingerprint>[0-9a-f]{{{HASH_LENGTH}}}))")
Fetch = Callable[[str], Path]  # repository path -> a local copy


@dataclass(frozen=True)
class Stored:
    """A finished experiment: its name and its commit."""

    name: str
    revision: str


def list_stored(root: Path) -> dict[str, Stored]:
    """Return the finished experiments by fingerprint; of several with the same content the first ref counts."""
    command = ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    stored: dict[str, Stored] = {}
    for line in listed.splitlines():
        revision, ref = line.split(" ", 1)
        if match := REF.fullmatch(ref):
            stored.setdefault(match["fingerprint"], Stored(match["name"], revision))
    return stored


@contextlib.contextmanager
def open_experiment(stored: Stored, *, root: Path) -> Iterator[Fetch]:
    """Yield a function that copies a file of the experiment to a temporary folder, once; ValueError if its data is gone or damaged.

    DVC may link the copy to its cache: written a second time, it would take the cached file with it.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    files = DVCFileSystem(str(root.resolve()), rev=stored.revision)
    with tempfile.TemporaryDirectory() as folder:

        def fetch(path: str) -> Path:
            target = Path(folder) / path
            if target.exists():
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            hint = f"`dvc exp remove {stored.name}` and run it again"
            try:
                files.get_file(f"/{path}", str(target))
            except (OSError, DvcException) as error:
                raise ValueError(f"the experiment {stored.name} has no readable {path} ({type(error).__name__}: {error}); {hint}.") from error
            expected = files.info(f"/{path}").get("dvc_info", {}).get("md5")
            if expected and hash_file(target) != expected:
                target.unlink()
                raise ValueError(f"{path} of the experiment {stored.name} is damaged in DVC's cache; `make verify`, then {hint}.")
            return target

        yield fetch
