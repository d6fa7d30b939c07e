"""Shared fixtures: every test works in its own folder, so that no ledger or file is shared."""

import os
from pathlib import Path

import pytest

# Threads cost more than they bring on tensors this small, the test processes share the cores already, and the last bits of a product of
# matrices depend on the number: one thread in this process and in all that it starts. Read when torch is first imported.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.small_project import SmallProject


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no test process waits for another at the end; one process has all that share the small run or a file's fixtures."""
    items.sort(key=lambda item: ("small_run" not in item.fixturenames, item.get_closest_marker("slow") is None))
    for item in items:
        own = item.nodeid if item.get_closest_marker("slow") else str(item.path)
        item.add_marker(pytest.mark.xdist_group("small_run" if "small_run" in item.fixturenames else own))


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
