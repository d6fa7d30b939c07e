"""Shared fixtures: every test works in its own folder, so that no ledger or file is shared."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

# Threads cost more than they bring on tensors this small, the test processes share the cores already, and the last bits of a product of
# matrices depend on the number: one thread in this process and in all that it starts. Read when torch is first imported.
os.environ["OMP_NUM_THREADS"] = "1"


from pipeline.choice import RESET
from pipeline.engine import Current
from pipeline.overrides import LOCAL
from tests.small_project import SmallProject

LONGEST = ("test_end_to_end.py", "test_data_sets.py", "test_stale.py", "test_scale.py")  # minutes each, in this order


def pytest_configure() -> None:
    """Forget that `make test` started us: a make that a test starts is no part of it, and prints nothing of folders."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
        os.environ.pop(name, None)
    if (Path(__file__).resolve().parents[1] / "conf" / LOCAL).exists():
        pytest.exit(f"the tests are about the default, and something else is chosen: make use ARGS={RESET}, then make test.", returncode=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: with several test processes, each of which takes whole files, none then waits for another at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _own_work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test compute in what another one has chosen."""
    for name in ("engine", "address", "needs_gpu", "workers"):
        monkeypatch.setattr(Current, name, getattr(Current, name))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A finished run of the whole pipeline in a small setting, shared by all test processes: who changes something works on a `copy` of it."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    printed = folder / "small-run.txt"  # written when it is finished
    with FileLock(folder / "small-run.lock"):
        if not printed.exists():
            shutil.rmtree(folder / "small-run", ignore_errors=True)
            project = SmallProject(folder / "small-run" / "ragar")
            project.env["KEY_TRACE"] = str(project.root / ".key-trace.jsonl")
            printed.write_text(project.repro(), encoding="utf-8")
    project = SmallProject.open(folder / "small-run" / "ragar")
    project.first_output = printed.read_text(encoding="utf-8")
    return project
