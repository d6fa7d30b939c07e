"""Stages are forked from a process that keeps packages loaded, and cannot tell. Run: python -m pytest tests/stages/test_server.py"""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline import stage_processes
from stages.server import PACKAGES
from tests.toy_project import REPO, ToyProject

REPORT = """
import json, os, sys
from pathlib import Path
import stages.step
before = "pandas" in sys.modules
import pandas
print("said by", sys.argv[1], flush=True)
facts = {"before": before, "arguments": sys.argv[1:], "own": __file__, "name": __name__, "word": stages.step.WORD, "process": os.getpid(),
         "folder": os.getcwd(), "path": sys.path[0], "variable": os.environ.get("DVC_STAGE"),
         "threads": len(os.listdir("/proc/self/task"))}
Path(f"out-{sys.argv[1]}.json").write_text(json.dumps(facts))
Path("stages/step.py").write_text("WORD = 'edited'")
"""
REPRO = (sys.executable, "-m", "pipeline.dvc_command", "repro")


def make_project(tmp_path: Path, code: str, names: tuple[str, ...] = ("a",)) -> ToyProject:
    """Make a project of stages that run `code` one after the other."""
    project = ToyProject(tmp_path / "project")
    shutil.copytree(REPO / "stages", project.root / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (project.root / "stages" / "step.py").write_text("WORD = 'first'")
    (project.root / "stages" / "told.py").write_text(code)
    stages, deps = {}, ["in.txt"]
    for name in names:
        stages[name] = {"cmd": f"python -m stages.told {name} --and=more", "deps": deps, "outs": [f"out-{name}.json"]}
        deps = stages[name]["outs"]
    (project.root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    return project


def read_facts(project: ToyProject, name: str) -> dict:
    return json.loads((project.root / f"out-{name}.json").read_text())


def test_a_package_is_loaded_once_for_the_stages_that_follow_and_our_own_code_anew_for_each(tmp_path: Path) -> None:
    project = make_project(tmp_path, REPORT, ("a", "b", "c"))
    said = project.run(*REPRO)
    first, second, third = (read_facts(project, name) for name in "abc")
    assert [facts["before"] for facts in (first, second, third)] == [False, True, True]
    assert [facts["word"] for facts in (first, second, third)] == ["first", "edited", "edited"]
    assert len({facts["process"] for facts in (first, second, third)}) == 3
    assert said.index("said by a") < said.index("said by b") < said.index("said by c")


def test_a_forked_stage_sees_what_a_plain_process_sees(tmp_path: Path) -> None:
    forked, plain = (make_project(tmp_path / kind, REPORT, ("a", "b")) for kind in ("forked", "plain"))
    forked.run(*REPRO)
    plain.run("dvc", "repro")
    for name in "ab":
        here, there = read_facts(forked, name), read_facts(plain, name)
        for varying in ("process", "before", "threads"):
            del here[varying], there[varying]
        assert json.dumps(here) == json.dumps(there).replace(str(plain.root), str(forked.root))
        assert here["name"] == "__main__"
        assert here["arguments"] == [name, "--and=more"]


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import torch, triton\nraise KeyError('of our own')", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import nothing_of_this_name", 2),
    ],
)
def test_a_forked_stage_fails_as_a_plain_process_does(tmp_path: Path, code: str, end: int) -> None:
    project = make_project(tmp_path, code)
    said, plain = project.run(*REPRO, code=255), project.run("dvc", "repro", code=255)
    last = "ERROR: failed to reproduce 'a': failed to run: python -m stages.told a --and=more, exited with "
    assert f"{last}{end}\n" in said
    by_shell = f"{last}{128 - end}\n"  # a shell that waits for the command, as dash does, says a signal's number so
    assert f"{last}{end}\n" in plain or (end < 0 and by_shell in plain)
    assert "leaked" not in said
    assert ("KeyError: 'of our own'" in said) == ("KeyError" in code)
    assert ("the package nothing_of_this_name cannot be loaded" in said) == ("nothing" in code)


def test_a_stage_goes_when_its_server_is_killed_and_the_next_one_starts_without(tmp_path: Path) -> None:
    """The first stage kills its parent, which is the server."""
    code = "import os, signal, sys, time\nif sys.argv[1] == 'a' and not os.path.exists('again'):\n"
    code += "    open('again', 'w').close(); os.kill(os.getppid(), signal.SIGKILL); time.sleep(30)\nopen(f'out-{sys.argv[1]}.json', 'w').write('{}')"
    project = make_project(tmp_path, code, ("a", "b"))
    began = time.monotonic()
    assert "exited with -9" in project.run(*REPRO, code=255)
    assert time.monotonic() - began < 20
    project.run(*REPRO)
    assert (project.root / "out-b.json").exists()


def test_the_server_ends_with_the_launcher_that_is_killed(tmp_path: Path) -> None:
    code = "import os, time\nopen('parent', 'w').write(str(os.getppid()))\ntime.sleep(2)"
    project = make_project(tmp_path, code)
    with subprocess.Popen(REPRO, cwd=project.root, env=project.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
        deadline = time.monotonic() + 30
        while not (project.root / "parent").exists() or not (project.root / "parent").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        launcher.send_signal(signal.SIGKILL)
    server = Path("/proc") / (project.root / "parent").read_text()
    while server.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.exists()


def test_ctrl_c_does_not_wait_for_packages_that_are_being_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stage_processes, "SERVER", "slow_server")
    (tmp_path / "slow_server.py").write_text("import time\ntime.sleep(30)")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        began = time.monotonic()
        process = stage_processes.fork_stage([sys.executable, "-m", "stages.server"], cwd=tmp_path, env=dict(os.environ))
        assert time.monotonic() - began < 10
        assert signal.sigwait({signal.SIGINT}) == signal.SIGINT
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not stage_processes.servers


def test_packages_that_are_kept_start_no_threads_that_a_fork_would_lose() -> None:
    """Those of OpenBLAS (none here) and jemalloc, which numpy, scipy and pyarrow bring, take care of forks themselves."""
    code = f"import importlib, os\nfor name in {PACKAGES}: importlib.import_module(name)\n"
    code += (
        "tasks = os.listdir('/proc/self/task')\nprint({open(f'/proc/self/task/{task}/comm').read().strip() for task in tasks} - {'jemalloc_bg_thd'})"
    )
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    counted = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert len(ast.literal_eval(counted)) == 1
