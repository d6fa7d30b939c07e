"""Give every run a stable name from what its result depends on: composed parameters, stage definitions, code and raw inputs.

DVC knows an experiment by its name and the commit below it, so the same work would count as new after every commit. Here the name
ends in a hash of content: an experiment with that hash is up to date on whatever commit it was made, and one without it is not.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.runs import Run
from pipeline.code import hash_stages
from pipeline.compose import compose_params
from pipeline.fingerprint import compute_fingerprint, dump_canonical
from pipeline.models.folders import PREFIX, find_recipe
from pipeline.models.look_pair import ITS_MODEL, SHIPPED_MAP
from pipeline.yaml_files import read_yaml_mapping

TARGET = "evaluation"  # the stage whose outputs are read
CODE = "code"  # the stage that hashes the code of all others: it reads whole folders, of which only the needed stages' part counts
HASH_LENGTH = 10  # hex digits in an experiment's name
WEIGHTS = "embedded/weights/"
SKIPPED = {"__pycache__", ".work", ".venv"}  # as .dvcignore


@dataclass(frozen=True)
class Plan:
    """A run with its fingerprint; runs with equal fingerprints are the same work."""

    run: Run
    fingerprint: str
    copies: tuple[str, ...] = ()  # files and folders that git does not hold: a temporary run must be given a copy

    @property
    def experiment(self) -> str:
        """Return the DVC experiment's name."""
        return f"ragar-{self.run.name}-{self.fingerprint}"


@dataclass(frozen=True)
class Inputs:
    """What runs depend on: the needed stages by name, the names of all stages, the hash of their code, and the digest of every input file."""

    needed: dict[str, Any]
    stages: tuple[str, ...]
    code: dict[str, Any]  # by stage; of one that loads a module by name, a hash for each
    digests: dict[str, str]
    copies: tuple[str, ...]  # files and folders that git does not hold: a temporary run must be given a copy
    tracked: frozenset[str]  # what git holds
    known: dict[str, dict[str, str]] = field(default_factory=dict)  # the digests below each path that a param has named

    def add_named(self, params: dict[str, Any], root: Path) -> Inputs:
        """Return the inputs of a run with these params: also the raw files that they name; ValueError if they are not there."""
        digests, copies = dict(self.digests), list(self.copies)
        for name, path in list_named_paths(self.needed, params):
            if path not in self.known:
                check_named(name, path, root)
                self.known[path] = hash_files(root / path, root)
            digests |= self.known[path]
            if not Path(path).is_absolute():  # where it is, a temporary run finds that too
                untracked = sorted(set(self.known[path]) - self.tracked)
                is_whole = 0 < len(untracked) == len(self.known[path])
                copies += [Path(path).as_posix()] if is_whole else list_copies(untracked, self.tracked)
        return replace(self, digests=digests, copies=tuple(dict.fromkeys(copies)))


def plan_runs(runs: Iterable[Run], inputs: Inputs, *, root: Path) -> list[Plan]:
    """Return the plan of every run; ValueError says which override is wrong, or which raw files are missing."""
    plans = []
    for run in runs:
        params = compose_run(run, root)
        own = inputs.add_named(params, root)
        plans.append(Plan(run, identify_run(params, own), own.copies))
    return plans


def list_unique(plans: Iterable[Plan]) -> list[Plan]:
    """Return the first plan of every fingerprint."""
    unique: dict[str, Plan] = {}
    for plan in plans:
        unique.setdefault(plan.fingerprint, plan)
    return list(unique.values())


def compose_run(run: Run, root: Path) -> dict[str, Any]:
    """Compose the run's parameters; ValueError also says which run it is."""
    try:
        return compose_overrides(run.overrides, root)
    except ValueError as error:
        raise ValueError(f"run {run.name} ({' '.join(run.overrides)}): {error}") from error


def compose_overrides(overrides: Sequence[str], root: Path) -> dict[str, Any]:
    """Compose parameters as `dvc exp run -S ...` would, without touching params.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "params.yaml"
        compose_params(list(overrides), conf=root / "conf", out=out)
        return read_yaml_mapping(out)


def identify_run(params: dict[str, Any], inputs: Inputs) -> str:
    """Hash what the run's result depends on; `runtime` and the blocks of later stages are left out."""
    relevant = {name: block for name, block in params.items() if name != "runtime" and (name in inputs.needed or name not in inputs.stages)}
    code = {name: value for name, value in inputs.code.items() if name in inputs.needed}
    if isinstance(code.get("dataset"), dict):
        code["dataset"] = code["dataset"].get(params["dataset"]["name"])  # another data set's adapter does not count
    if isinstance(code.get("generation"), dict):
        code["generation"] = {method: value for method, value in code["generation"].items() if params["comparison"][method]}
    return compute_fingerprint(relevant, inputs.needed, code, leave_out_unused(inputs.digests, params))[:HASH_LENGTH]


def leave_out_unused(digests: dict[str, str], params: dict[str, Any]) -> dict[str, str]:
    """Leave out the shipped weights that the run's models do not read: a drawing model that is trained anew renames no run that another one draws."""
    if "models" not in params:
        return digests
    texts = [text for text in list_texts(params["models"]) if text.startswith(PREFIX)]
    if params["models"].get("diffusion") in {*texts} - {ITS_MODEL}:
        texts = [text for text in texts if text != SHIPPED_MAP]  # named everywhere, and refused beside another shipped drawing model
    names = {text.removeprefix(PREFIX) for text in texts}
    read = names | {find_recipe(name).other for name in names}
    return {path: digest for path, digest in digests.items() if not path.startswith(WEIGHTS) or path.removeprefix(WEIGHTS).split("/")[0] in read}


def read_inputs(root: Path, code: dict[str, Any] | None = None) -> Inputs:
    """Read dvc.yaml and hash every file that the needed stages take from outside of the pipeline; `code` is that of the stages, by default ours."""
    stages = read_yaml_mapping(root / "dvc.yaml")["stages"]
    needed = select_stages(stages, TARGET)
    needed.pop(CODE, None)
    tracked = list_tracked(root)
    digests: dict[str, str] = {}
    for path in list_input_paths(needed, tuple(stages), root):
        digests |= hash_files(root / path, root)
    untracked = sorted(set(digests) - tracked)
    for name in untracked:
        if not name.startswith("data/"):
            raise ValueError(f"{name} is an input of the pipeline but not in git, so a temporary run would lack it: `git add {name}`.")
    return Inputs(needed, tuple(stages), hash_stages() if code is None else code, digests, list_copies(untracked, tracked), frozenset(tracked))


def list_copies(untracked: Iterable[str], tracked: Iterable[str]) -> tuple[str, ...]:
    """Return the untracked files, or the highest folders above them without a tracked file: what DVC can copy in one piece."""
    known = {folder for name in tracked for folder in Path(name).parents}
    copies = []
    for name in map(Path, untracked):
        folders = [folder for folder in reversed(name.parents) if folder not in known]
        copies.append((folders[0] if folders else name).as_posix())
    return tuple(dict.fromkeys(copies))


def select_stages(stages: dict[str, Any], target: str) -> dict[str, Any]:
    """Return the definitions of `target` and of every stage below it: who names a path below `data/<stage>` needs that stage."""
    if target not in stages:
        raise ValueError(f"dvc.yaml has no stage {target!r}.")
    needed: dict[str, Any] = {}
    todo = [target]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed[name] = stages[name]
            todo.extend(sorted(set(re.findall(r"data/(\w+)", dump_canonical(stages[name]))) & stages.keys()))
    return dict(sorted(needed.items()))


def list_input_paths(needed: dict[str, Any], stages: Sequence[str], root: Path) -> list[str]:
    """Return the deps, and the existing paths among a group's items, that no stage makes; ValueError on a dep that is missing."""
    made = re.compile(rf"data/({'|'.join(map(re.escape, stages))})(/|$)")
    paths: set[str] = set()
    for name, definition in needed.items():
        deps = [dep for dep in definition.get("do", definition).get("deps", []) if "${" not in dep and not made.match(dep)]
        for dep in deps:
            if not (root / dep).exists():
                raise ValueError(f"{dep}, a dep of stage {name}, does not exist.")
        items = [text for text in list_texts(definition.get("foreach", definition.get("matrix"))) if "/" in text and not made.match(text)]
        paths |= {*deps, *(text for text in items if (root / text).exists())}
    return sorted(paths)


def list_named_paths(needed: dict[str, Any], params: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (param, path) for every dep that names a param, as `${dataset.raw}`; one as `${item.text}` is none."""
    named = []
    for definition in needed.values():
        for dep in definition.get("do", definition).get("deps", []):
            match = re.fullmatch(r"\$\{(([a-z_]+)\.([a-z_]+))\}", dep)
            block = params.get(match[2]) if match else None
            if isinstance(block, dict) and match[3] in block:
                named.append((match[1], str(block[match[3]])))
    return named


def check_named(name: str, path: str, root: Path) -> None:
    """Raise ValueError if a path that a param names is not there, or would not be in a temporary run."""
    if not (root / path).exists():
        raise ValueError(f"{name} is {path}, but there is no such file or folder.")
    if not Path(path).is_absolute() and ".." in Path(os.path.normpath(path)).parts:
        raise ValueError(
            f"{name} is {path}, which leads out of the repository, and a temporary run is in another folder: write {(root / path).resolve()}."
        )


def list_texts(value: Any) -> Iterator[str]:
    """Yield every string inside of nested lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from list_texts(item)


def hash_files(path: Path, root: Path) -> dict[str, str]:
    """Return the sha256 (hex) of a file, or of all files below a folder, by its path in the repository; of one elsewhere, by its whole path."""
    digests = {}
    for file in list_files(path):
        name = file.relative_to(root) if file.is_relative_to(root) else file
        with file.open("rb") as content:
            digests[name.as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


def list_files(path: Path) -> list[Path]:
    """Return a file, or all files below a folder, in order."""
    if path.is_file():
        return [path]
    files = (file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return sorted(file for file in files if not SKIPPED & set(file.relative_to(path).parts))


def has_changes(root: Path) -> bool:
    """Say whether tracked files differ from the last commit."""
    status = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=root, capture_output=True, check=True)
    return bool(status.stdout.strip())


def list_tracked(root: Path) -> set[str]:
    """Return the paths in git's index."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.decode()
    return set(filter(None, listed.split("\0")))
