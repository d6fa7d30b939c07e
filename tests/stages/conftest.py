"""What the tests of several stages start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stages.dataset_project import Project
from tests.stages.drawing_project import save_models


@pytest.fixture
def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Project]:
    """Make a project with a raw data set of this name."""
    return lambda name: Project(tmp_path, name, monkeypatch)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name a tiny model of each kind."""
    return save_models(tmp_path_factory.mktemp("models"))
