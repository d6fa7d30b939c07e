"""`make demo` as a process, and what it is installed from. Run: python -m pytest tests/pipeline/demo/test_command.py -m "slow or not slow" """

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
import tomllib

import httpx
import pytest

from tests.configs import REPO
from tests.pipeline.draw.toy_run import ToyRun

PIN = re.compile(r"^([\w.-]+)==(\S+)(?: ; [^\\]*)? \\$", flags=re.MULTILINE)


def read_pins(name: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for package, version in PIN.findall((REPO / name).read_text(encoding="utf-8")):
        pins.setdefault(package, set()).add(version)
    return pins


def test_the_extra_is_locked_and_changes_no_package_of_the_pipeline() -> None:
    extra = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["demo"]
    locked, own = read_pins("requirements-demo.lock"), read_pins("requirements.lock")
    assert [name for name in extra if "==" in name] == [f"gradio=={version}" for version in locked["gradio"]]
    assert {name.partition("==")[0] for name in extra} <= set(locked)
    assert {name: versions for name, versions in locked.items() if versions != own.get(name, versions)} == {}
    assert len(set(locked) - set(own)) > 5


@pytest.mark.slow
def test_the_page_is_there_and_ctrl_c_ends_it_in_one_line(toy: ToyRun) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed: make setup EXTRAS=demo")
    for method in ("sd", "ragar"):
        toy.write_generated(method, {}, None)
    path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "DVC_ROOT": str(toy.folder)}
    command = [sys.executable, "-m", "pipeline.demo", "--args", "--port 17861"]
    process = subprocess.Popen(command, cwd=toy.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert select.select([process.stdout], [], [], 300)[0]
        assert process.stdout.readline() == "demo: http://127.0.0.1:17861 (Ctrl-C ends it)\n"
        with httpx.Client(timeout=60, transport=httpx.HTTPTransport(retries=20)) as client:
            assert client.get("http://127.0.0.1:17861/").status_code == 200
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert time.monotonic() - began < 5  # two seconds, and what a busy machine adds
    assert (process.returncode, printed) == (130, "interrupted: finished pictures are kept; the same command opens the page again\n")
    assert list((toy.folder / ".work").glob(".demo-*")) == []
