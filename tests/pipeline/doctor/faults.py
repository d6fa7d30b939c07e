"""Faults that the checks must find, and what they say."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.doctor.findings import Finding

IDENTITY = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def assert_wrong(finding: Finding, *words: str) -> None:
    assert finding.level == "wrong", finding
    for word in words:
        assert word in finding.text


def refuse(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def fill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder's disk be full: new files can be made, but nothing can be written to them."""
    real = tempfile.NamedTemporaryFile

    def make(*arguments: object, dir: Path, **options: object) -> object:
        file = real(*arguments, dir=dir, **options)
        if Path(dir).resolve() == folder.resolve():
            file.write = refuse(errno.ENOSPC)
        return file

    monkeypatch.setattr("tempfile.NamedTemporaryFile", make)
