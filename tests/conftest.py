"""Shared fixtures: every test works in its own folder, so that no ledger or file is shared."""

from pathlib import Path

import pytest

from tests.small_project import SmallProject


@pytest.fixture(autouse=True)
def _own_work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A finished run of the whole pipeline in a small setting, shared: who changes something works on a `copy` of it."""
    project = SmallProject(tmp_path_factory.mktemp("small") / "ragar")
    project.env["KEY_TRACE"] = str(project.root / ".key-trace.jsonl")
    project.first_output = project.repro()
    del project.env["KEY_TRACE"]
    return project
