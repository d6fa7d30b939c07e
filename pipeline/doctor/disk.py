"""The project's disk: can it be written to, has it room, and what can its file system not do."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

from pipeline.doctor.findings import Check, Finding
from pipeline.doctor.machine import measure_room
from pipeline.locks import CANNOT_LOCK
from pipeline.memory import write_bytes_for_people
from pipeline.work import work_dir

MIN_FREE, MIN_FREE_INSTALLED = 10 * 2**30, 2 * 2**30  # bytes: with and after the packages
MIN_INODES = 50_000
BLOCK_BYTES = 4096
FOLDERS = (Path(), Path("data"), Path(".dvc"))  # and the folder of finished work


def check_writable() -> Finding:
    """The folders that a run writes to."""
    folders = [folder for folder in (*FOLDERS, work_dir()) if folder.is_dir()]
    for folder in folders:
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
                file.write(bytes(BLOCK_BYTES))  # on a full disk a file can be made, and nothing written into it
                file.flush()
        except OSError as error:
            cure = {
                errno.EROFS: "make that file system writable, or work in a copy of the project elsewhere",
                errno.ENOSPC: "free some space",
                errno.EDQUOT: "free some of your quota",
            }.get(error.errno or 0, "give this user the right to write there")
            return Finding("wrong", f"disk: {folder.resolve()} cannot be written to ({error.strerror}); {cure}")
    return Finding("ok", f"disk: {Path.cwd()} can be written to")


def check_room() -> Finding:
    """Free space and free inodes."""
    needed = MIN_FREE_INSTALLED if Path(".venv/.installed").exists() else MIN_FREE
    for folder in dict.fromkeys((Path.cwd(), find_existing(work_dir()))):
        free = measure_room(folder)
        if free < needed:
            return Finding(
                "wrong", f"room: {write_bytes_for_people(free)} free in {folder}, about {write_bytes_for_people(needed)} are needed; free some"
            )
        state = os.statvfs(folder)
        if state.f_files and state.f_favail < MIN_INODES:
            return Finding("wrong", f"room: only {state.f_favail:,} further files fit on the disk of {folder}; remove small files that nobody needs")
    return Finding("ok", f"room: {write_bytes_for_people(measure_room(Path.cwd()))} free")


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
