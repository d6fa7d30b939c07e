"""`make verify`: check everything that DVC keeps by its content, set what is damaged aside, and put it back or compute it again."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.integrity.cache import find_damaged_objects, find_damaged_runs, is_text, list_runs, locate_object, refill, remove_empty_runs
from pipeline.integrity.hashes import Mismatch, find_mismatches
from pipeline.integrity.lock import LOCK, SET_ASIDE, Out, find_fault, read_outs, set_aside
from pipeline.terminal import say


@dataclass(frozen=True)
class Store:
    """Where DVC keeps what, for one repository."""

    root: Path
    cache: Path
    memory: Path  # the hashes that DVC remembers by a file's time, size and inode


def verify(root: Path) -> None:
    """Check and mend; ValueError if something could not be mended."""
    is_lock_broken = set_broken_lock_aside(root)
    set_broken_claims_aside(root)
    with open_store(root) as store:
        num_checked, objects, runs = check_cache(store)
        outs = read_outs(root)
        mismatches = find_mismatches(outs, root)
        for mismatch in mismatches:
            say_and_set_aside(root / mismatch.out.path, f"it is not what stage {mismatch.out.stage} has written", root)
        sound = [out for out in outs if out not in {mismatch.out for mismatch in mismatches}]
        refilled = refill(store.cache, objects, sound, root)
        if refilled:
            say(f"put {refilled} object{'s' * (refilled > 1)} back into the cache, from the workspace")
        if objects or mismatches:
            forget_hashes(store)
    restore_outs(mismatches, is_lock_broken=is_lock_broken, store=store)
    # A check of the ledgers and checkpoints in .work belongs here: it needs DVC's hashes of nothing, and what it removes is computed again.
    remaining = find_mismatches(read_outs(root), root)
    if remaining:
        raise ValueError(f"{', '.join(mismatch.out.path for mismatch in remaining)}: still not what dvc.lock says; run `make verify` again.")
    num_here = sum((root / out.path).exists() for out in read_outs(root))
    if is_lock_broken or objects or runs or mismatches:
        say(f"verify: mended; what was damaged is in {SET_ASIDE}, remove it when you like")
    else:
        say(f"verify: all is well ({num_here} of {len(outs)} outs are here, {num_checked} objects and runs in the cache)")


def set_broken_lock_aside(root: Path) -> bool:
    """Say what is wrong with dvc.lock, move it away if it is broken, and return whether it was."""
    fault = find_fault(root)
    if fault:
        target = set_aside(root / LOCK, root)
        say(f"{LOCK} is broken ({fault}); it is now {target.relative_to(root)}, and DVC rebuilds it from its run cache")
    return fault is not None


def set_broken_claims_aside(root: Path) -> None:
    """Move DVC's list of what its running commands read and write away if a kill has left half of it: DVC refuses to start with that."""
    from dvc.lock import LockError, make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, SCHEMA
    from voluptuous import Invalid

    folder = root / ".dvc" / "tmp"
    path = folder / RWLOCK_FILE
    if not path.exists():
        return
    with contextlib.suppress(LockError), make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder)):  # held by whoever is writing it
        try:
            SCHEMA(json.loads(path.read_bytes()))
        except (ValueError, Invalid):
            set_aside(path, root)
            say(f"{path.relative_to(root)} was half written and is set aside; DVC begins a new one")


def set_illegible_runs_aside(root: Path) -> None:
    """Move runs away at which DVC would end with an error; it then runs their stages. `verify` looks at all the others, wherever the cache is."""
    for path in list_runs(root / ".dvc" / "cache"):
        if not is_text(path):
            say_and_set_aside(path, "it is no text", root)
    remove_empty_runs(root / ".dvc" / "cache")


@contextlib.contextmanager
def open_store(root: Path) -> Iterator[Store]:
    """Yield where DVC keeps its files, with DVC kept out of them; ValueError if it is running."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except DvcException as error:
        raise ValueError(f"DVC cannot open {root}: {error}") from error
    with contextlib.closing(repo):
        store = Store(root, Path(repo.cache.local_cache_dir), Path(repo.site_cache_dir))
        try:
            with repo.lock:
                yield store
        except LockError as error:
            raise ValueError("DVC is running here; wait for it to end, then run `make verify` again.") from error


def check_cache(store: Store) -> tuple[int, list[Path], list[Path]]:
    """Set every damaged object and run aside; return how many files there were, the damaged objects and the damaged runs."""
    objects, num_objects = find_damaged_objects(store.cache)
    runs, num_runs = find_damaged_runs(store.cache)
    for path in [*objects, *runs]:
        say_and_set_aside(path, "its content is not what its name says", store.root)
    remove_empty_runs(store.cache)
    return num_objects + num_runs, objects, runs


def say_and_set_aside(path: Path, reason: str, root: Path) -> None:
    """Name a damaged file, and move it out of the way."""
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    say(f"damaged: {shown}: {reason}")
    set_aside(path, root)


def forget_hashes(store: Store) -> None:
    """Make DVC hash every file again: it may have remembered a damaged one as good."""
    shutil.rmtree(store.memory / "hashes", ignore_errors=True)


def restore_outs(mismatches: list[Mismatch], *, is_lock_broken: bool, store: Store) -> None:
    """Put damaged outs back from the cache, which has been checked, and compute the rest again."""
    held, lost = [], []
    for mismatch in mismatches:
        (held if locate_object(store.cache, mismatch.out.md5).is_file() else lost).append(mismatch.out)
    if held:
        run_dvc(store.root, "checkout", "--force", "--allow-missing", *(out.path for out in held))
    lost += [out for out in held if not (store.root / out.path).exists() or find_mismatches([out], store.root)]
    if is_lock_broken:
        run_dvc(store.root, "repro")
    elif lost:
        run_dvc(store.root, "repro", *list_stages(lost))


def list_stages(outs: list[Out]) -> list[str]:
    """Return the stages that make the outs, each once."""
    return list(dict.fromkeys(out.stage for out in outs))


def run_dvc(root: Path, *arguments: str) -> None:
    """Run DVC to its end; ValueError if it fails."""
    code = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=False).returncode
    if code:
        raise ValueError(f"`dvc {' '.join(arguments)}` ended with exit code {code}; the lines above say why.")
