"""The project's disk: can it be written to, has it room, and what can its file system not do."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.findings import Check, Finding
from pipeline.doctor.machine import measure_room
from pipeline.doctor.settings import list_dvc_folders
from pipeline.locks import CANNOT_LOCK
from pipeline.memory import write_bytes_for_people
from pipeline.work import work_dir

MIN_FREE, MIN_FREE_INSTALLED = 10 * 2**30, 2 * 2**30  # bytes: with and after the packages
MIN_INODES = 50_000
FOLDERS = (Path(), Path("data"), Path(".dvc"), Path(".dvc/tmp"))  # and the folder of finished work, and DVC's
NOT_WRITTEN = ("raw", "extra")  # of data/
TRIED = 2**16  # bytes: an empty file finds room on a full disk
CURES = {
    errno.EROFS: "make that file system writable, or work in a copy of the project elsewhere",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EISDIR: "it must be a file: remove the folder",
    errno.EFBIG: "`ulimit -f unlimited`",
}


def list_folders() -> list[Path]:
    """Return the folders that a run writes to, each once: those that are there, and of DVC's the ones that they will be made in."""
    own = [folder for folder in (*FOLDERS, work_dir()) if folder.is_dir()]
    return list(dict.fromkeys(folder.resolve() for folder in [*own, *map(find_existing, list_dvc_folders())]))


def check_writable() -> Finding:
    """The folders that a run writes to, and the two files in the project's own folder that are written again and again."""
    for folder in list_folders():
        try:
            try_writing(folder)
        except OSError as error:
            return explain_unwritable(folder, error)
    for path in (Path("dvc.lock"), Path("params.yaml")):
        try:
            if path.exists():
                os.close(os.open(path, os.O_RDWR))
        except OSError as error:
            if path.name == "dvc.lock" or error.errno != errno.EACCES:  # params.yaml is replaced, for which the folder's rights are enough
                return explain_unwritable(path.resolve(), error)
    for folder in list_inner_folders():
        if not os.access(folder, os.W_OK | os.X_OK):
            return explain_unwritable(folder.resolve(), PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return Finding("ok", f"disk: {Path.cwd()} can be written to")


def try_writing(folder: Path) -> None:
    """Write a file into a folder and remove it again; OSError if that cannot be done."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        file.write(bytes(TRIED))
        file.flush()


def list_inner_folders() -> Iterator[Path]:
    """Yield the folders below those that a run writes to: one that was made by another user stops it late."""
    cache = [folder for folder in list_dvc_folders()[:1] if folder.is_dir()]
    for top in (Path("data"), work_dir(), *cache):
        for folder, names, _ in os.walk(top):
            names[:] = [name for name in names if top.name != "data" or Path(folder) != top or name not in NOT_WRITTEN]
            yield Path(folder)


def explain_unwritable(path: Path, error: OSError) -> Finding:
    """Return what is wrong with a file or folder that cannot be written to, and what to do about it."""
    owner, me = path.stat().st_uid, os.getuid()
    cure = CURES.get(error.errno or 0, "give this user the right to write there")
    if not path.is_relative_to(Path.cwd()) and not path.is_relative_to(work_dir().resolve()):
        cure += ", or name another folder: DVC_SITE_CACHE_DIR is the variable for what DVC remembers, `dvc cache dir` the command for its cache"
    elif error.errno in (errno.EACCES, errno.EPERM) and owner != me:
        cure = f"it belongs to {name_user(owner)} (a run with sudo?); `sudo chown -R {name_user(me)} .` gives the project back"
    return Finding("wrong", f"disk: {path} cannot be written to ({error.strerror}); {cure}")


def name_user(number: int) -> str:
    """Return a user's name; the number where the system knows none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def check_room() -> Finding:
    """Free space and free inodes, on every disk that a run writes to."""
    needed = MIN_FREE_INSTALLED if Path(".venv/.installed").exists() else MIN_FREE
    cache = list_dvc_folders()[:1]
    disks: dict[int, Path] = {}
    for folder in (Path.cwd(), *map(find_existing, [*FOLDERS, *cache, work_dir()])):
        disks.setdefault(identify_disk(folder), folder)
    for folder in disks.values():
        free = measure_room(folder)
        wanted = needed if folder == Path.cwd() else MIN_FREE_INSTALLED
        if free < wanted:
            return Finding(
                "wrong", f"room: {write_bytes_for_people(free)} free in {folder}, about {write_bytes_for_people(wanted)} are needed; free some"
            )
        state = os.statvfs(folder)
        if state.f_files and state.f_favail < MIN_INODES:
            return Finding("wrong", f"room: only {state.f_favail:,} further files fit on the disk of {folder}; remove small files that nobody needs")
    return Finding("ok", f"room: {write_bytes_for_people(measure_room(Path.cwd()))} free")


def identify_disk(folder: Path) -> int:
    """Return the number of the disk that a folder is on."""
    return folder.stat().st_dev


def check_locks() -> Finding:
    """Locks, which keep two runs apart: DVC's own, and those of finished work."""
    for folder, cure in (
        (Path(".dvc/tmp"), "`.venv/bin/dvc config --local core.hardlink_lock true`, or move the project to a local disk"),
        (work_dir(), ""),
    ):
        number = try_lock(find_existing(folder))
        if number in CANNOT_LOCK and cure:
            return Finding("wrong", f"locks: {folder} cannot be locked ({os.strerror(number)}); {cure}")
        if number in CANNOT_LOCK:
            return Finding("note", f"locks: {folder} cannot be locked ({os.strerror(number)}); only runs on this machine are kept apart")
    return Finding("ok", "locks: files can be locked")


def try_lock(folder: Path) -> int:
    """Lock a new file in a folder; return the number of the error, 0 if there is none (or none of locking)."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return error.errno or 0
    except OSError:
        return 0  # `check_writable` says so
    return 0


def check_file_system() -> Finding:
    """What makes files safe from a power cut; without it they are written all the same."""
    missing = []
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".doctor-") as folder:
            for name, call in (("flush folders", flush_folder), ("replace a file", replace_file)):
                try:
                    call(Path(folder))
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        continue  # `check_writable` says so
                    missing.append(f"{name} ({error.strerror})")
    except OSError:
        pass  # `check_writable` says so
    if missing:
        return Finding("note", f"file system: it cannot {' or '.join(missing)}; after a power cut, run `make verify`")
    return Finding("ok", "file system: files survive a power cut")


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries, as after a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(folder: Path) -> None:
    """Rename one file onto another."""
    for name in ("old", "new"):
        (folder / name).write_text(name)
    os.replace(folder / "new", folder / "old")


def find_existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


CHECKS: tuple[Check, ...] = (check_writable, check_room, check_locks, check_file_system)
