"""What the tests of the study share: a finished toy run to stand in, and its study."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.study.__main__ import app
from pipeline.study.key import Key, read_key
from tests.pipeline.study.made import StudyRun


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    """A finished run that no test changes."""
    return StudyRun(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def made_study(finished: StudyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of six cases, made by the command; no test changes it."""
    out = tmp_path_factory.mktemp("study")
    before = Path.cwd()
    os.chdir(finished.folder)
    try:
        result = CliRunner().invoke(app, ["--cases", "6", "--out", str(out)], catch_exceptions=False)
    finally:
        os.chdir(before)
    assert result.exit_code == 0
    return out


@pytest.fixture
def key(made_study: Path) -> Key:
    return read_key(made_study / "key.json")
