"""Files that are there as a whole or not at all: written beside their place, flushed to disk, and renamed onto it.

A sealed file also carries the digest of its bytes in its name, `<name>-<32 hex digits of its sha256><suffix>`: whoever reads it later
knows whether it still is what was written, wherever in it a byte has changed or been cut off.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.terminal import say

CHANGES_NO_RESULT = True
DIGEST_DIGITS = 32
# What network and FUSE file systems answer to a call that they do not have: the file is written all the same, only less safe from a power cut.
NOT_THERE = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY})


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed onto `path`, else removed."""
    with _make_temporary(path.parent, path.name) as temporary:
        yield temporary
        _publish(temporary, path)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut; nothing where the file system cannot."""
    with skip_if(NOT_THERE | {errno.EACCES, errno.EBADF}):  # a folder that can be written but not listed, or that opens as no file
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def skip_if(numbers: frozenset[int]) -> Iterator[None]:
    """Go on after an OSError with one of these numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def rename_over(source: Path, target: Path) -> None:
    """Rename `source` onto `target`; where a file system cannot replace, the old file steps aside for a moment, and comes back if it must."""
    try:
        os.replace(source, target)
        return
    except OSError as error:
        if error.errno not in NOT_THERE | {errno.EEXIST} or not target.is_file():
            raise
    aside = target.with_name(f".{target.name}.old.tmp")
    os.replace(target, aside)
    try:
        os.replace(source, target)
    except OSError:
        os.replace(aside, target)
        raise
    aside.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replace_file(path) as temporary:
        temporary.write_bytes(data)


def write_sealed(folder: Path, name: str, suffix: str, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file and rename it to its sealed name, which is returned; it then survives a kill and a power cut."""
    with _make_temporary(folder, name) as temporary:
        write(temporary)
        path = folder / f"{name}-{compute_digest(temporary)}{suffix}"
        _publish(temporary, path)
    return path


def list_sealed(folder: Path, prefix: str, suffix: str) -> list[Path]:
    """List the sealed files whose names begin with `prefix`, by name; whether they are intact is not looked at."""
    return sorted(path for path in folder.glob(f"{prefix}*-{'?' * DIGEST_DIGITS}{suffix}") if path.is_file())


def is_intact(path: Path) -> bool:
    """Say whether a sealed file can be read and holds the bytes that it was sealed with."""
    try:
        return compute_digest(path) == path.stem[-DIGEST_DIGITS:]
    except OSError:
        return False


def read_sealed(path: Path) -> bytes | None:
    """Return a sealed file's bytes, or None if it is damaged; it is then set aside."""
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:DIGEST_DIGITS] == path.stem[-DIGEST_DIGITS:]:
            return data
    set_aside(path)
    return None


def set_aside(path: Path) -> None:
    """Warn of a damaged file, once, and rename it, so that it is not found again."""
    say(f"warning: {path} is damaged and set aside; what it held is computed again")
    os.replace(path, path.with_suffix(".damaged"))
    sync_folder(path.parent)


def compute_digest(path: Path) -> str:
    """Return the digest that seals a file with these bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_DIGITS]


@contextlib.contextmanager
def _make_temporary(folder: Path, name: str) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(temporary)
    except OSError as error:
        error.filename = error.filename or str(folder / name)  # a full disk is reported without a name
        raise
    finally:
        Path(temporary).unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file, skip_if(NOT_THERE):
        os.fsync(file.fileno())
    with skip_if(NOT_THERE | {errno.EPERM}):  # file systems with no rights of their own
        temporary.chmod(0o644)
    rename_over(temporary, path)
    sync_folder(path.parent)
