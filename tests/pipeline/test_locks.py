"""A folder has one user at a time, on disks that cannot lock too. Run: python -m pytest tests/pipeline/test_locks.py"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from pipeline.locks import locate_stand_in, lock_folder

REAL = fcntl.flock


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int, *, below: Path) -> None:
    """Let a file system refuse to lock."""

    def lock(file: IO[str], how: int) -> None:
        if Path(file.name).is_relative_to(below):
            raise OSError(number, os.strerror(number))
        REAL(file, how)

    monkeypatch.setattr(fcntl, "flock", lock)


@pytest.mark.parametrize("number", [None, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_a_second_user_is_refused_whether_the_disk_can_lock_or_not(
    tmp_path: Path, stand_ins: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "other").mkdir()
    if number is not None:
        refuse_locks(monkeypatch, number, below=tmp_path / "work")
    with lock_folder(tmp_path / "work"):
        with pytest.raises(ValueError, match=r"work is in use by another run; wait for it to end\."), lock_folder(tmp_path / "work"):
            pass
        with lock_folder(tmp_path / "other"):
            pass
    with lock_folder(tmp_path / "work"):
        pass
    assert bool(list(stand_ins.iterdir())) == (number is not None)


def test_the_stand_in_is_the_users_own_and_follows_the_folder_by_any_of_its_names(tmp_path: Path, stand_ins: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "work")
    assert locate_stand_in(tmp_path / "work" / "lock") == locate_stand_in(tmp_path / "link" / "lock") != locate_stand_in(tmp_path / "lock")
    assert stat.S_IMODE((stand_ins / f"ragar-locks-{os.getuid()}").stat().st_mode) == 0o700


def test_where_nothing_can_be_locked_one_sentence_says_what_to_do(tmp_path: Path, stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch, errno.ENOLCK, below=tmp_path)
    words = (
        rf"neither {tmp_path} nor {stand_ins}/ragar-locks-\d+ can be locked \(No locks available\); move the project to a local disk, or .*TMPDIR\.$"
    )
    with pytest.raises(ValueError, match=words), lock_folder(tmp_path):
        pass
