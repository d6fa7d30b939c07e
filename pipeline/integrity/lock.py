"""Read dvc.lock, and tell a whole one from one that DVC was killed while writing.

DVC rewrites the file in place after every stage, so a kill or a full disk leaves its beginning: often valid YAML, and some of it
valid to DVC too. What is cut off between two entries is no fault: DVC restores the stages that are missing from its run cache.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHANGES_NO_RESULT = True

LOCK, PIPELINE = "dvc.lock", "dvc.yaml"
SET_ASIDE = Path(".dvc/tmp/damaged")  # git ignores it
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
SCHEMA = "2.0"


@dataclass(frozen=True)
class Out:
    """A file or folder that a stage has made, as dvc.lock has it; `path` is relative to the repository's root."""

    stage: str
    path: str
    md5: str  # of a folder: DVC's hash of its list of files, with `.dir` at the end

    @property
    def is_folder(self) -> bool:
        """Say whether the out is a folder."""
        return self.md5.endswith(".dir")


def read_outs(root: Path) -> list[Out]:
    """Return every out with a hash in dvc.lock, none without the file; ValueError if the file is broken.

    What it holds of a stage that is no longer in dvc.yaml is left out: nobody makes or reads it any more, and DVC keeps such entries.
    """
    try:
        data = (root / LOCK).read_bytes()
    except FileNotFoundError:
        return []
    document, fault = parse_lock(data)
    if fault:
        raise ValueError(f"{LOCK} is broken ({fault}); `make repro` or `make verify` rebuilds it from DVC's run cache.")
    known = read_pipeline(root)
    stages = [(stage, entry) for stage, entry in document["stages"].items() if not known or is_known(stage, known)]
    return [Out(stage, out["path"], out["md5"]) for stage, entry in stages for out in entry.get("outs") or [] if out.get("md5")]


def read_params(root: Path, stage: str) -> dict[str, Any]:
    """Return the values of params.yaml with which a stage has last run, by dotted name; empty if it has not, or the file is broken."""
    try:
        document, fault = parse_lock((root / LOCK).read_bytes())
    except FileNotFoundError:
        return {}
    found = {} if fault else document["stages"].get(stage, {}).get("params", {}).get("params.yaml", {})
    return found if isinstance(found, dict) else {}


def find_fault(root: Path) -> str | None:
    """Say what is wrong with the repository's dvc.lock; None if it is whole, or not there."""
    try:
        data = (root / LOCK).read_bytes()
    except FileNotFoundError:
        return None
    return parse_lock(data, stages_with_outs=list_stages_with_outs(root))[1] or find_refusal(root / LOCK)


def find_refusal(path: Path) -> str | None:
    """Say why DVC itself refuses the file, None if it does not: it reads YAML 1.2, where a size of 11:3 is no number, and knows all keys."""
    from dvc.exceptions import DvcException  # these take longer to import than a stage needs for the whole file
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.strictyaml import load

    try:
        load(str(path), COMPILED_LOCKFILE_SCHEMA)
    except DvcException as error:
        return " ".join(str(error.__cause__ or error).split())
    return None


def parse_lock(data: bytes, *, stages_with_outs: Iterable[str] = ()) -> tuple[dict[str, Any], str | None]:
    """Return the document and None, or {} and what is wrong with it."""
    if not data.strip():
        return {}, "it is empty"
    if not data.endswith(b"\n"):
        return {}, "it is cut off in the middle of a line"
    try:
        document = yaml.load(data.decode(), Loader=yaml.CSafeLoader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return {}, " ".join(str(error).split())
    fault = next(iter(list_faults(document, frozenset(stages_with_outs))), None)
    return ({}, fault) if fault else (document, None)


def list_faults(document: Any, stages_with_outs: frozenset[str]) -> Iterator[str]:
    """Yield what is wrong with a document that is valid YAML."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or not isinstance(document.get("stages"), dict):
        yield f"it has no stages under schema {SCHEMA}"
        return
    for stage, entry in document["stages"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str | list):
            yield f"stage {stage} has no command"
        elif str(stage).partition("@")[0] in stages_with_outs and not entry.get("outs"):
            yield f"stage {stage} has no outs"
        elif bad := [str(path) for path in map(find_incomplete, list_entries(entry)) if path]:
            yield f"stage {stage} has no whole entry of {bad[0]}"


def list_entries(entry: dict[str, Any]) -> Iterator[Any]:
    """Yield the deps and outs of a stage."""
    for kind in ("deps", "outs"):
        paths = entry.get(kind) or []
        yield from paths if isinstance(paths, list) else [paths]


def find_incomplete(item: Any) -> str | None:
    """Return the path of an entry that lacks what DVC writes for a local file or folder; None if it has all."""
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        return "a path"
    if set(item) <= {"path", "hash"}:
        return item["path"]
    md5 = item.get("md5")
    if item.get("hash") == "md5" and not (isinstance(md5, str) and MD5.fullmatch(md5) and isinstance(item.get("size"), int)):
        return item["path"]
    return item["path"] if str(md5).endswith(".dir") and not isinstance(item.get("nfiles"), int) else None


def list_stages_with_outs(root: Path) -> list[str]:
    """Return the stages of dvc.yaml that declare outs, a group under its own name; none if the file cannot be read, which DVC reports better."""
    return [name for name, entry in read_pipeline(root).items() if entry.get("do", entry).get("outs")]


def read_pipeline(root: Path) -> dict[str, dict[str, Any]]:
    """Return the stages of dvc.yaml by name, each group once; none if the file cannot be read."""
    try:
        stages = yaml.load((root / PIPELINE).read_bytes(), Loader=yaml.CSafeLoader)["stages"]
        return stages if all(isinstance(entry.get("do", entry), dict) for entry in stages.values()) else {}
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return {}


def is_known(stage: str, pipeline: dict[str, dict[str, Any]]) -> bool:
    """Say whether dvc.yaml has a stage; of a group whose items are written as a template, or as a matrix, it has them all."""
    name, at, item = str(stage).partition("@")
    entry = pipeline.get(name)
    if entry is None or bool(at) != bool(entry.keys() & {"foreach", "matrix"}):  # gone, or left over from before it became a group
        return False
    items = entry.get("foreach")
    return item in map(str, items) if isinstance(items, dict | list) else True


def set_aside(path: Path, root: Path) -> Path:
    """Move a damaged file or folder out of the way, below `.dvc/tmp/damaged/<seconds>/`, and return where it is now."""
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    base = target = root / SET_ASIDE / time.strftime("%Y%m%d-%H%M%S") / inside
    for number in range(1, 1000):
        if not target.exists():
            break
        target = base.with_name(f"{base.name}.{number}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    return target
