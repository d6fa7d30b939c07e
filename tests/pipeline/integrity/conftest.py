"""A finished toy project, made once and copied for each test that breaks it."""

from pathlib import Path

import pytest

from tests.toy_project import ToyProject


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ToyProject:
    project = ToyProject(tmp_path_factory.mktemp("toy") / "project")
    project.run("dvc", "repro")
    return project


@pytest.fixture
def project(finished: ToyProject, tmp_path: Path) -> ToyProject:
    return finished.copy_to(tmp_path / "project")
