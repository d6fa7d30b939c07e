"""The disk beforehand. Run: python -m pytest tests/pipeline/doctor/test_disk.py"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from pipeline.doctor import disk
from pipeline.doctor.findings import Finding
from tests.pipeline.doctor.faults import assert_wrong, fill, refuse
from tests.pipeline.test_endings import mount_small


def test_a_disk_that_cannot_be_written_to_is_named_with_its_cure(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.check_writable().level == "ok"
    for number, cure in (
        (errno.EROFS, "make that file system writable"),
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "give this user the right"),
    ):
        monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse(number))
        assert_wrong(disk.check_writable(), f"{project} cannot be written to ({os.strerror(number)}); {cure}")


def test_a_full_disk_is_no_disk_that_lacks_a_call(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mount_small(project / "small", "size=16k") as small:
        (small / "filler").write_bytes(b"0" * 16 * 1024)
        monkeypatch.chdir(small)
        monkeypatch.setenv("DVC_ROOT", str(small))
        assert_wrong(disk.check_writable(), f"{small} cannot be written to (No space left on device); free some space")
        assert disk.check_file_system().level == "ok"
        monkeypatch.chdir(project)


def test_little_room_is_measured_by_what_is_still_to_be_installed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "measure_room", lambda _: 3 * 2**30)
    assert_wrong(disk.check_room(), f"3 GiB free in {project}, about 10 GiB are needed")
    (project / ".venv").mkdir()
    (project / ".venv" / ".installed").touch()
    assert disk.check_room() == Finding("ok", "room: 3 GiB free")


def test_a_disk_without_locks_says_what_to_do_for_dvc_and_what_it_means_for_ours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.check_locks().level == "ok"
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    assert_wrong(disk.check_locks(), ".dvc/tmp cannot be locked (No locks available); `.venv/bin/dvc config --local core.hardlink_lock true`")
    real = disk.try_lock
    monkeypatch.setattr(disk, "try_lock", lambda folder: 0 if folder.name == "tmp" else real(folder))
    finding = disk.check_locks()
    assert (finding.level, "only runs on this machine are kept apart" in finding.text) == ("note", True)


def test_a_file_system_that_cannot_flush_or_replace_is_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.check_file_system().level == "ok"
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    assert disk.check_file_system() == Finding(
        "note", "file system: it cannot flush folders (Invalid argument); after a power cut, run `make verify`"
    )
    monkeypatch.setattr(os, "replace", refuse(errno.EEXIST))
    assert "flush folders (Invalid argument) or replace a file (File exists)" in disk.check_file_system().text


@pytest.mark.parametrize("name", ["data", ".dvc", ".dvc/tmp", ".dvc/cache", ".work"])
def test_every_full_disk_is_found_by_writing_to_it(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (project / name).mkdir(exist_ok=True)
    assert disk.check_writable().level == "ok"
    fill(project / name, monkeypatch)
    assert_wrong(disk.check_writable(), f"{project / name} cannot be written to (No space left on device); free some space")


def test_dvcs_cache_and_what_it_remembers_may_be_elsewhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (project / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    (tmp_path / "site" / "repo").mkdir(parents=True)
    assert {cache, tmp_path / "site" / "repo"} <= set(disk.list_folders())
    with monkeypatch.context() as patch:
        fill(cache, patch)
        assert_wrong(disk.check_writable(), f"{cache} cannot be written to (No space left on device)")
    fill(tmp_path / "site" / "repo", monkeypatch)
    assert_wrong(
        disk.check_writable(),
        f"{tmp_path}/site/repo cannot be written to (No space left on device); free some space, or name another folder",
    )


def test_a_folder_inside_that_another_user_has_made_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data/ranker", "data/raw/images", ".work/ti/0f", ".dvc/cache/files/md5/0a"):
        (project / name).mkdir(parents=True)
    assert disk.check_writable().level == "ok"
    real = os.access
    for name in ("data/ranker", ".work/ti/0f", ".dvc/cache/files/md5/0a"):
        monkeypatch.setattr(os, "access", lambda path, mode, name=name: real(path, mode) and not str(path).endswith(name))
        assert_wrong(disk.check_writable(), f"{project / name} cannot be written to (Permission denied)")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: 4711)
            assert_wrong(disk.check_writable(), "(a run with sudo?); `sudo chown -R 4711 .` gives the project back")
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and not str(path).endswith("raw/images"))
    assert disk.check_writable().level == "ok"  # nothing is written there


@pytest.mark.parametrize("name", ["dvc.lock", "params.yaml"])
def test_files_that_are_written_again_must_be_files(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (project / name).unlink(missing_ok=True)
    (project / name).mkdir()
    assert_wrong(disk.check_writable(), f"{project}/{name} cannot be written to (Is a directory); it must be a file: remove the folder")
    (project / name).rmdir()
    (project / name).touch()
    assert disk.check_writable().level == "ok"
    real = os.open
    for number, level in ((errno.EPERM, "wrong"), (errno.EACCES, "ok" if name == "params.yaml" else "wrong")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", lambda path, *flags, number=number: refuse(number)() if Path(path).name == name else real(path, *flags))
            assert disk.check_writable().level == level


def test_room_is_looked_for_on_every_disk(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "measure_room", lambda folder: 2**20 if folder.name == "data" else 2**40)
    assert disk.check_room().level == "ok"  # the same disk
    monkeypatch.setattr(disk, "identify_disk", lambda folder: folder.name == "data")
    assert_wrong(disk.check_room(), f"1 MiB free in {project}/data, about 2 GiB are needed")
