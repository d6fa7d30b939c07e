"""What the tests of several stages start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stages.dataset_project import Project


@pytest.fixture
def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Project]:
    """Make a project with a raw data set of this name."""
    return lambda name: Project(tmp_path, name, monkeypatch)
