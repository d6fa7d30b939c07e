"""Hash files and folders as DVC does, by reading them: what DVC remembers of a file (time, size, inode) cannot tell a flipped byte."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.integrity.lock import Out

CHANGES_NO_RESULT = True

UNREADABLE = "unreadable"
IGNORED = (".work", ".venv", "__pycache__")  # as in .dvcignore


@dataclass(frozen=True)
class Mismatch:
    """An out that is not what dvc.lock says; `found` is its MD5, or UNREADABLE."""

    out: Out
    found: str


def find_mismatches(outs: Iterable[Out], root: Path) -> list[Mismatch]:
    """Return the outs whose content is not what dvc.lock says; those that are not there are left out."""
    present = [out for out in outs if os.path.lexists(root / out.path)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves the interpreter free
        found = list(pool.map(lambda out: hash_path(root / out.path), present))
    return [Mismatch(out, md5) for out, md5 in zip(present, found, strict=True) if md5 != out.md5]


def hash_path(path: Path) -> str:
    """Return DVC's hash of a file or folder; UNREADABLE if the disk does not give its content."""
    try:
        return hash_folder(path) if path.is_dir() else hash_file(path)
    except OSError:
        return UNREADABLE


def hash_file(path: Path) -> str:
    """Return the MD5 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def hash_folder(path: Path) -> str:
    """Return the MD5 of DVC's list of a folder's files, with `.dir` at its end."""
    return f"{hashlib.md5(list_folder(path), usedforsecurity=False).hexdigest()}.dir"


def list_folder(path: Path) -> bytes:
    """Return DVC's list of a folder's files, byte by byte as its cache holds it."""
    entries = [{"md5": hash_file(file), "relpath": file.relative_to(path).as_posix()} for file in list_files(path)]
    return json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True).encode()


def list_files(path: Path) -> Iterator[Path]:
    """Yield the files below a folder that DVC does not ignore."""
    for folder, names, files in os.walk(path):
        names[:] = [name for name in names if name not in IGNORED]
        yield from (Path(folder) / name for name in files if not name.endswith(".pyc"))
