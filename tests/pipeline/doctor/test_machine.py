"""The machine beforehand. Run: python -m pytest tests/pipeline/doctor/test_machine.py"""

from __future__ import annotations

import errno
import resource
import sys
import time
from pathlib import Path

import pytest

from pipeline import memory
from pipeline.doctor import __main__ as doctor
from pipeline.doctor import machine
from pipeline.doctor.findings import Finding
from tests.pipeline.doctor.faults import assert_wrong, refuse


def test_limits_that_are_too_low_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (256, 256)}
    monkeypatch.setattr(resource, "getrlimit", lambda number: limits.get(number, (resource.RLIM_INFINITY, 0)))
    assert_wrong(machine.check_limits(), "only 256 open files are allowed; `ulimit -n 4096`")
    limits[resource.RLIMIT_NOFILE], limits[resource.RLIMIT_FSIZE] = (4096, 4096), (2**20, 2**20)
    assert_wrong(machine.check_limits(), "no file may be larger than 1 MiB; `ulimit -f unlimited`")
    for number, limit, words in (
        (resource.RLIMIT_NPROC, 100, "only 100 processes and threads are allowed; `ulimit -u 4096`"),
        (resource.RLIMIT_CPU, 600, "a process is killed after 600 s of computing; `ulimit -t unlimited`"),
        (resource.RLIMIT_AS, 2 * 2**30, "a process may map only 2 GiB of memory, of which torch alone takes 7 GiB; `ulimit -v unlimited`"),
    ):
        limits.clear()
        limits[number] = (limit, limit)
        assert_wrong(machine.check_limits(), words)
    limits.clear()
    assert machine.check_limits().level == "ok"


def test_a_clock_in_the_past_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_clock().level == "ok"
    monkeypatch.setattr(time, "time", lambda: 86400.0)
    assert_wrong(machine.check_clock(), "which is before this project's own files; set it")


def test_letters_that_file_names_cannot_have_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert_wrong(machine.check_letters(), "file names are read as ascii", "`export LC_ALL=C.UTF-8`")


def test_folders_for_temporary_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(project / "absent"))
    assert machine.check_temporary_files().text.startswith(f"temporary files: TMPDIR names {project}/absent, which cannot be written to; ")
    monkeypatch.setattr(machine, "measure_room", lambda _: 2**20)
    assert_wrong(machine.check_temporary_files(), "1 MiB free in ", "name another folder with TMPDIR")
    monkeypatch.setattr("tempfile.gettempdir", refuse(errno.ENOENT))
    assert_wrong(machine.check_temporary_files(), "no folder for them can be written to; name one with the variable TMPDIR")


def test_a_home_that_is_not_there_is_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_home().level == "ok"
    monkeypatch.setenv("HOME", str(project / "absent"))
    assert machine.check_home() == Finding("note", f"home: {project}/absent does not exist; libraries may miss it, `export HOME=` some folder")
    monkeypatch.setenv("HOME", "/dev/null")
    assert_wrong(machine.check_home(), "home: HOME is /dev/null, which is no folder; `export HOME=` some folder")
    with pytest.raises(SystemExit):  # DVC would end with a traceback
        doctor.refuse(doctor.BEFORE["repro"])


def test_little_memory_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_free", lambda: 2**30)
    assert machine.check_memory().text.startswith("memory: 1 GiB free, the embedded profile takes up to 4 GiB")
