"""Locks of folders: one process at a time, and the lock goes with its process, however that ends.

Some file systems cannot lock (network disks without a lock service, FUSE). There, a file in this machine's folder for temporary files is
locked instead: it keeps the processes of this machine apart, which is what nearly everybody needs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHANGES_NO_RESULT = True
# what a file system answers that has no locks: its own words, or its lock service's
CANNOT_LOCK = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@contextlib.contextmanager
def lock_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder's lock; if another process holds it, wait for it or raise ValueError."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_lock_file(folder / "lock", wait=wait))
        except BlockingIOError as error:
            raise ValueError(f"{folder} is in use by another run; wait for it to end.") from error
        yield


@contextlib.contextmanager
def _lock_file(path: Path, *, wait: bool) -> Iterator[None]:
    """Lock a file, or its stand-in where its file system cannot lock."""
    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    with path.open("w") as file:
        try:
            fcntl.flock(file, how)
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
        else:
            yield
            return
    with locate_stand_in(path).open("w") as file:
        try:
            fcntl.flock(file, how)
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
            raise ValueError(
                f"neither {path.parent} nor {Path(file.name).parent} can be locked ({os.strerror(error.errno)}); move the project to a local disk, "
                "or name a folder on one for temporary files with the variable TMPDIR."
            ) from error
        yield


def locate_stand_in(path: Path) -> Path:
    """Return the file in the folder for temporary files that is locked in the place of `path`; each user has their own."""
    folder = Path(tempfile.gettempdir()) / f"ragar-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:32]
