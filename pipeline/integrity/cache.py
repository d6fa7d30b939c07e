"""Check DVC's cache: every object against its name, which is its MD5, and every entry of the run cache against its own.

DVC itself never does: it takes a read-only file in its cache for whole, whatever `cache.verify` says, and else goes by time and size.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from pipeline.integrity.hashes import hash_file, list_files, list_folder
from pipeline.integrity.lock import Out

OBJECTS = Path("files/md5")
RUNS = Path("runs")
PROTECTED = 0o444  # DVC's mode for what it keeps
MEASURED = ("size", "nfiles")  # what DVC leaves out of a run's hash


def list_objects(cache: Path) -> list[Path]:
    """Return every object of the cache, sorted."""
    return sorted(path for path in (cache / OBJECTS).glob("??/*") if path.is_file() and not path.name.startswith("."))


def find_damaged_objects(cache: Path) -> tuple[list[Path], int]:
    """Return the objects whose content is not what their name says, and how many objects there are."""
    objects = list_objects(cache)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        whole = list(pool.map(is_whole, objects))
    return [path for path, good in zip(objects, whole, strict=True) if not good], len(objects)


def is_whole(path: Path) -> bool:
    """Say whether an object's content has the hash that its name is; one that cannot be read is not whole."""
    try:
        return hash_file(path) == f"{path.parent.name}{path.name}".removesuffix(".dir")
    except OSError:
        return False


def find_damaged_runs(cache: Path) -> tuple[list[Path], int]:
    """Return the entries of the run cache that DVC could not trust, and how many there are."""
    runs = list_runs(cache)
    return [path for path in runs if not is_whole_run(path, cache)], len(runs)


def list_runs(cache: Path) -> list[Path]:
    """Return every entry of the run cache, sorted."""
    return sorted(path for path in (cache / RUNS).glob("??/*/*") if path.is_file() and not path.name.startswith("."))


def remove_empty_runs(cache: Path) -> None:
    """Remove the folders that held runs and hold none any more: DVC ends with an error at one, which it also leaves behind itself."""
    for folder in (cache / RUNS).glob("??/*"):
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()


def is_text(path: Path) -> bool:
    """Say whether a file can be read as text; DVC drops a run that is not YAML, but ends with an error at one that is not even text."""
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return True


def is_whole_run(path: Path, cache: Path) -> bool:
    """Say whether a run's content has the hash that its name is, and the sizes that its outs have in the cache."""
    from dvc.utils import dict_sha256
    from dvc.utils.serialize import ParseError, load_yaml

    for load in (load_fast, load_yaml):  # they differ in numbers such as 1e-05, and the second one takes ten times as long
        try:
            run = load(path)
            if dict_sha256(run, exclude=list(MEASURED)) == path.name:
                return all(has_its_size(out, cache) for out in run["outs"])
        except (OSError, ValueError, yaml.YAMLError, ParseError, TypeError, AttributeError, KeyError):
            continue
    return False


def load_fast(path: Path) -> Any:
    """Read YAML in C."""
    return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)


def has_its_size(out: dict, cache: Path) -> bool:
    """Say whether an out in a run has the size of its object; one that is a folder, or not in the cache, passes."""
    md5 = out["md5"]
    path = locate_object(cache, md5)
    return md5.endswith(".dir") or not path.is_file() or path.stat().st_size == out["size"]


def locate_object(cache: Path, md5: str) -> Path:
    """Return where DVC keeps the object of a hash."""
    return cache / OBJECTS / md5[:2] / md5[2:]


def refill(cache: Path, lost: Iterable[Path], outs: Iterable[Out], root: Path) -> int:
    """Put objects back that the (sound) outs in the workspace still hold; return how many."""
    wanted = {f"{path.parent.name}{path.name}": path for path in lost}
    if not wanted:
        return 0
    num_before = len(wanted)
    for out in outs:
        path = root / out.path
        if not path.exists():
            continue
        if out.is_folder:
            for file in list_files(path):
                restore_object(wanted, hash_file(file), file)
            restore_object(wanted, out.md5, list_folder(path))
        else:
            restore_object(wanted, out.md5, path)
    return num_before - len(wanted)


def restore_object(wanted: dict[str, Path], md5: str, content: Path | bytes) -> None:
    """Write an object if it is wanted, whole or not at all, and take it off the list."""
    target = wanted.pop(md5, None)
    if target is None:
        return
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, file)
    os.chmod(name, PROTECTED)
    os.replace(name, target)
