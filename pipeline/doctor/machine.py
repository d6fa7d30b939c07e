"""The machine and the user's surroundings: platform, memory, limits, clock, letters, home and temporary files."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

from pipeline import memory, platforms
from pipeline.doctor.findings import Check, Finding, judge

MIN_MEMORY = 4 * 2**30  # bytes; the embedded profile takes 3
MIN_OPEN_FILES = 1024
MIN_TEMPORARY = 2**28  # bytes
MIN_ADDRESSES = 16 * 2**30  # bytes; torch alone maps 7 GiB
MIN_PROCESSES = 256  # and threads, of this user
DAY = 24 * 3600  # seconds: as much as a time zone may be wrong
MIN_SECONDS = DAY  # of CPU time


def check_platform() -> Finding:
    """System, processor, C library and Python."""
    refusal = platforms.find_refusal()
    return judge(
        refusal and f"platform: {platforms.NEEDED}, but {refusal}",
        f"platform: Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    )


def check_memory() -> Finding:
    """Free memory, of the container if there is one."""
    free = memory.measure_free()
    if free is None:
        return Finding("note", "memory: this system does not tell how much is free")
    text = f"memory: {memory.describe_free()}"
    if free < MIN_MEMORY:
        return Finding("note", f"{text}, the embedded profile takes up to 4 GiB; close other programs, or lower the batch sizes in conf/")
    return Finding("ok", text)


def check_limits() -> Finding:
    """The shell's limits, which some systems set low for everybody."""
    for name, least, text in (
        ("NOFILE", MIN_OPEN_FILES, "only {} open files are allowed; `ulimit -n 4096`"),
        ("NPROC", MIN_PROCESSES, "only {} processes and threads are allowed; `ulimit -u 4096`"),
        ("CPU", MIN_SECONDS, "a process is killed after {} s of computing; `ulimit -t unlimited`"),
        ("AS", MIN_ADDRESSES, "a process may map only {} of memory, of which torch alone takes 7 GiB; `ulimit -v unlimited`"),
        ("FSIZE", resource.RLIM_INFINITY, "no file may be larger than {}; `ulimit -f unlimited`"),
    ):
        limit = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
        if limit != resource.RLIM_INFINITY and (least == resource.RLIM_INFINITY or limit < least):
            return Finding("wrong", f"limits: {text.format(memory.write_bytes_for_people(limit) if name in ('AS', 'FSIZE') else limit)}")
    return Finding("ok", "limits: files, processes, memory and time are not limited too low")


def check_clock() -> Finding:
    """A clock that is behind the project's own files: make, TLS and DVC compare times."""
    newest = max((path.stat().st_mtime for path in map(Path, ("dvc.yaml", "Makefile", "requirements.lock")) if path.exists()), default=0.0)
    behind = newest - time.time()
    now = time.strftime("%Y-%m-%d %H:%M")
    return judge(f"clock: it says {now}, which is before this project's own files; set it" if behind > DAY else None, f"clock: {now}")


def check_letters() -> Finding:
    """A locale whose letters are those of UTF-8."""
    name = sys.getfilesystemencoding()
    if name.lower().replace("-", "") != "utf8":
        return Finding("wrong", f"letters: file names are read as {name}, so that é or 新 cannot be found; `export LC_ALL=C.UTF-8`")
    shown = getattr(sys.stdout, "encoding", None) or "none"
    if shown.lower().replace("-", "") != "utf8":
        return Finding("note", f"letters: this terminal takes {shown}, other letters are shown escaped; `export LC_ALL=C.UTF-8`")
    return Finding("ok", "letters: UTF-8")


def check_temporary_files() -> Finding:
    """A folder for temporary files that can be written to."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Finding("wrong", "temporary files: no folder for them can be written to; name one with the variable TMPDIR")
    free = measure_room(folder)
    if free < MIN_TEMPORARY:
        return Finding(
            "wrong", f"temporary files: {memory.write_bytes_for_people(free)} free in {folder}; free some, or name another folder with TMPDIR"
        )
    named = os.environ.get("TMPDIR")
    if named and Path(named).resolve() != folder.resolve():
        return Finding("note", f"temporary files: TMPDIR names {named}, which cannot be written to; {folder} is taken")
    return Finding("ok", f"temporary files: {folder}")


def check_home() -> Finding:
    """A home folder: git and DVC keep the user's name there, libraries their caches."""
    home = os.path.expanduser("~")
    for name in ("HOME", "XDG_CONFIG_HOME"):
        named = os.environ.get(name)
        if named and os.path.exists(named) and not os.path.isdir(named):
            return Finding("wrong", f"home: {name} is {named}, which is no folder; `export {name}=` some folder")
    if not os.path.isdir(home):
        return Finding(
            "note", f"home: {'HOME is not set' if home == '~' else home + ' does not exist'}; libraries may miss it, `export HOME=` some folder"
        )
    if not os.access(home, os.W_OK):
        return Finding("note", f"home: {home} cannot be written to; hub models need another place, HF_HOME")
    return Finding("ok", f"home: {home}")


def measure_room(folder: Path) -> float:
    """Return the bytes that this user may still write; infinite where the system does not tell."""
    with contextlib.suppress(OSError):
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize
    return float("inf")


CHECKS: tuple[Check, ...] = (check_platform, check_memory, check_limits, check_clock, check_letters, check_temporary_files, check_home)
