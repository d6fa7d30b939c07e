"""What happens before a stage's main function: its inputs and its code are compared with what DVC knows of them, and leftovers are removed.

DVC compares times, sizes and inodes, which a fault of the disk does not change. A stage reads what dvc.lock says, or nothing. And it runs
the code whose hash DVC will note down, or nothing: an edit while DVC is on its way to a stage would make that note wrong for good.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.code import hash_stage
from pipeline.endings import LAUNCHED
from pipeline.integrity.hashes import UNREADABLE, Mismatch, find_mismatches
from pipeline.integrity.lock import read_outs
from pipeline.json_files import read_json
from pipeline.params import read_document, read_section
from pipeline.replaced_tables import STAGE as TABLES_STAGE
from pipeline.replaced_tables import describe_replaced
from pipeline.run_progress import begin_stage
from pipeline.terminal import say

CHANGES_NO_RESULT = True

OUT_OPTION = "--out"


def prepare(arguments: Sequence[str], root: Path) -> None:
    """Say where the run stands, remove leftovers in the stage's own folder, check every input on the command line; ValueError names a damaged one."""
    if line := begin_stage(root):
        say(line, file=sys.stderr)
    say(*describe_unannounced(root), file=sys.stderr)
    if folder := find_out_folder(arguments):
        remove_leftovers(folder)
    check_inputs(arguments, root)
    check_code(root)


def describe_unannounced(root: Path) -> list[str]:
    """Return whose tables a bare `dvc repro` or `dvc exp run` replaces in the workspace; our own commands have said so before."""
    in_workspace = Path(os.environ.get("DVC_ROOT", "")).resolve() == root.resolve()
    if os.environ.get("DVC_STAGE") != TABLES_STAGE or LAUNCHED in os.environ or not in_workspace:
        return []
    return describe_replaced(read_document(root / "params.yaml"), root, conf=root / "conf", removed=True)


def check_code(root: Path) -> None:
    """Raise ValueError if DVC runs a stage whose code is no longer what the stage `code` has hashed."""
    name, _, variant = os.environ.get("DVC_STAGE", "").partition("@")
    hashes = root / "data" / "code" / "hashes.json"
    known = read_json(hashes).get(name) if name and hashes.is_file() else None
    if isinstance(known, dict):
        variant = variant or read_section(root / "params.yaml", f"{name}.name")
        known = known.get(variant)
    if known is not None and known != hash_stage(name, variant):
        raise ValueError("the code has changed since the stage `code` hashed it: run the same command again.")


def find_out_folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder that the stage writes to, None if its command line names none."""
    return next((Path(value) for option, value in split_arguments(arguments) if option == OUT_OPTION), None)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed: DVC removes a stage's outs, but does not know of these."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def check_inputs(arguments: Sequence[str], root: Path) -> None:
    """Raise ValueError if a path on the command line is an out of another stage and not what dvc.lock says; other paths are the user's own."""
    outs = read_outs(root)
    read = {path for option, value in split_arguments(arguments) if option != OUT_OPTION for path in [locate(value, root)] if path}
    own = os.environ.get("DVC_STAGE")  # set by DVC; a stage's own outs are of its last run
    wanted = [out for out in outs if out.stage != own and any(overlaps(PurePosixPath(out.path), path) for path in read)]
    if mismatches := find_mismatches(wanted, root):
        raise ValueError(" ".join(map(describe, mismatches)) + " `make verify` finds all damaged files and makes them again.")


def describe(mismatch: Mismatch) -> str:
    """Say what is wrong with an input."""
    out = mismatch.out
    if mismatch.found == UNREADABLE:
        return f"{out.path} cannot be read."
    return f"{out.path} is not what stage {out.stage} has written (MD5 {mismatch.found}, in dvc.lock {out.md5}): it is damaged, or changed by hand."


def split_arguments(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return (option, value) for every argument that is no option's name; the option is the one before it or its own."""
    pairs = []
    for previous, argument in itertools.pairwise(["", *arguments]):
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            pairs.append((previous, argument))
        elif equals:
            pairs.append((name, value))
    return pairs


def locate(value: str, root: Path) -> PurePosixPath | None:
    """Return a path of the command line relative to the root; None if it lies elsewhere."""
    path, base = Path(value), root.resolve()
    path = path.parent.resolve() / path.name  # a link to DVC's cache keeps its own name
    return PurePosixPath(path.relative_to(base).as_posix()) if path.is_relative_to(base) else None


def overlaps(out: PurePosixPath, path: PurePosixPath) -> bool:
    """Say whether one of the two is, or holds, the other."""
    return out == path or path in out.parents or out in path.parents
