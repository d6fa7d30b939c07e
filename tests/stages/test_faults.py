"""A fault of the world ends every stage in one sentence and exit code 2. Run: python -m pytest tests/stages/test_faults.py"""

from __future__ import annotations

import errno
import os
import runpy
import shlex
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from safetensors import SafetensorError

from pipeline import memory
from pipeline.params import read_section
from tests.toy_project import REPO

STAGES = yaml.safe_load((REPO / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
GPU = (
    "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 79.18 GiB of which 12.69 GiB is free. "
    "Including non-PyTorch memory, this process has 66.48 GiB memory in use."
)
ARRAY = "Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type float64"
CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."
LATER = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other API call"
FAULTS = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "data/x.parquet"), "data/x.parquet: No space left on device; free some space"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "data/x"), "data/x: Disk quota exceeded; free some of your quota"),
    "files": (
        OSError(errno.EMFILE, "Too many open files", "a.json"),
        "a.json: Too many open files; raise the limit on open files (`ulimit -n 4096`)",
    ),
    "locks": (OSError(errno.ENOLCK, "No locks available", "lock"), "lock: No locks available; its file system has no locks"),
    "full disk in safetensors": (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device; free some space"),
    "memory": (MemoryError(), "the machine has no memory left (3 GiB free); "),
    "array": (np._core._exceptions._ArrayMemoryError((10**9,), np.dtype(float)), "7.45 GiB more were asked for, 3 GiB free"),
    "tensor": (RuntimeError(CPU), "the machine has no memory left (8 GiB more were asked for, 3 GiB free)"),
    "arrow": (pa.ArrowMemoryError("malloc of size 4294967296 failed"), "(4 GiB more were asked for, 3 GiB free)"),
    "GPU memory": (torch.OutOfMemoryError(GPU), "the GPU has no memory left (20.50 GiB more were asked for, 12.69 GiB free on it); "),
    "worker": (BrokenProcessPool("A process in the process pool was terminated abruptly"), "a worker process was killed, most likely by the system"),
    "GPU": (RuntimeError(LATER), "the GPU does not work (CUDA error: device-side assert triggered); `make doctor`"),
    "threads": (RuntimeError("can't start new thread"), "no further thread can be started; the limit on processes and threads"),
    "package": (
        ModuleNotFoundError("No module named 'resvg_py'", name="resvg_py"),
        "the package resvg_py cannot be loaded (No module named 'resvg_py')",
    ),
    "library": (ImportError("libcudart.so.13: cannot open shared object file", name="torch"), "the package torch cannot be loaded (libcudart"),
    "temporary files": (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/x']"), "with the variable TMPDIR"),
    "git": (subprocess.CalledProcessError(128, ["git", "status"], stderr=b"fatal: not a git repository\n"), "code 128: fatal: not a git repository"),
}


def run_stage_module(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, error: Exception) -> SystemExit:
    """Run a stage as DVC does, with a fault in the first thing that it does."""

    def fail(*_: object, **__: object) -> None:
        raise error

    definition = STAGES[name].get("do", STAGES[name])
    key, item = next(iter(STAGES[name].get("foreach", {"": {}}).items()))
    command = definition["cmd"].replace("${key}", key)
    arguments = shlex.split(command.replace("${item.arguments}", item.get("arguments", "") if isinstance(item, dict) else ""))[3:]
    monkeypatch.setattr("pipeline.params.read_document", fail)
    monkeypatch.setattr("pipeline.code.hash_stages", fail)
    monkeypatch.setattr(memory, "measure_free", lambda: 3 * 2**30)
    monkeypatch.setattr(sys, "argv", [str(REPO / "stages" / f"{name}.py"), *arguments])
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, f"stages.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"stages.{name}", run_name="__main__")
    return ended.value


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", STAGES)
def test_every_stage_ends_in_one_sentence(
    name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, words = FAULTS[fault]
    ended = run_stage_module(name, monkeypatch, tmp_path, error)
    assert ended.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.endswith(".\n")
    assert said.count("\n") == 1
    assert words in said
    if fault in ("memory", "GPU memory", "worker") and name in memory.PARAMS:
        assert f"; lower {memory.PARAMS[name]}" in said
    assert ("runtime.device=cpu" in said) == fault.startswith("GPU")
    assert list((tmp_path / ".work" / "running").iterdir()) == []


@pytest.mark.parametrize("name", STAGES)
def test_an_error_of_our_own_keeps_its_traceback(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError, match="our own"):
        run_stage_module(name, monkeypatch, tmp_path, KeyError("our own"))


def test_the_params_to_lower_are_there() -> None:
    for stage, text in memory.PARAMS.items():
        assert stage in STAGES
        for name in text.replace(" or ", ", ").split(", "):
            assert isinstance(read_section(REPO / "params.yaml", name), int), name


def test_another_python_than_the_projects_is_named_where_a_package_is_missing(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}", "DVC_ROOT": str(tmp_path)}
    command = [sys.executable, "-m", "stages.captioning", "--items", "a", "--out", "b"]
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    cure = f"this is {sys.executable} and not the project's Python: `. .venv/bin/activate` first, or take make's targets"
    assert (ended.returncode, ended.stderr) == (2, f"error: the package typer cannot be loaded (No module named 'typer'); {cure}.\n")


@pytest.mark.parametrize("package", ["torch", "pyarrow", "typer"])
def test_a_missing_package_is_a_sentence_before_the_stage_is_loaded(tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}", "DVC_ROOT": str(tmp_path)}
    command = [sys.executable, "-m", "stages.captioning", "--items", "a", "--out", "b"]
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"error: the package {package} cannot be loaded (No module named '{package}'); `rm -rf .venv` and `make setup` install everything again.\n",
    )
