"""Set-up refuses in one line where it cannot work. Run: python -m pytest tests/pipeline/test_platforms.py"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.platforms import find_refusal, main
from tests.toy_project import REPO

GOOD = {
    "system": "Linux", "machine": "x86_64", "implementation": "CPython", "version": (3, 12, 1), "libc": (2, 35), "bits": 64,
    "has_threads": False, "has_venv": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system": "Darwin", "machine": "arm64"}, "this is macOS; use a Linux machine, or a container for linux/amd64"),
        ({"system": "Windows"}, "this is Windows; use WSL 2 with Ubuntu"),
        ({"system": "FreeBSD"}, "this is FreeBSD; use a Linux machine"),
        ({"machine": "aarch64"}, "this is a aarch64 processor, for which FAISS and torch with CUDA are not to be had; use an x86-64 machine"),
        ({"bits": 32}, "this is CPython with 32 bits; use CPython with 64"),
        ({"implementation": "PyPy"}, "this is PyPy with 64 bits; use CPython"),
        ({"version": (2, 7)}, "this is Python 2.7 ("),
        ({"version": (3, 10)}, "this is Python 3.10 ("),
        ({"version": (3, 15)}, "); say which one to use: make PYTHON=python3.12 setup"),
        ({"has_threads": True}, "this Python is built without its global lock"),
        ({"libc": ()}, "this system has another C library than glibc (musl, as on Alpine?)"),
        ({"libc": (2, 17)}, "this system's glibc is 2.17; use a newer system"),
        ({"has_venv": False}, "apt-get install python3.12-venv"),
    ],
)
def test_a_machine_that_cannot_is_refused_with_what_to_do(change: dict, words: str) -> None:
    assert find_refusal(**GOOD) is None
    assert words in find_refusal(**{**GOOD, **change})


def test_the_refusal_is_one_line_that_names_the_platforms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert main() == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: RAGAR runs on Linux (or WSL 2) on x86-64 processors with glibc 2.28 or newer and CPython 3.11 to 3.14, but this is macOS;"
    )
    assert said.count("\n") == 1


def test_the_readme_names_the_same_platforms() -> None:
    readme = " ".join((REPO / "README.md").read_text(encoding="utf-8").split())
    for words in ("Linux on x86-64", "glibc 2.28", "Python 3.11 to 3.14", "GNU make 3.81", "macOS", "Windows", "WSL 2", "ARM"):
        assert words in readme, words


def test_old_pythons_can_read_it() -> None:
    tree = ast.parse((REPO / "pipeline" / "platforms.py").read_text(encoding="utf-8"), feature_version=(3, 0))
    modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Starred)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, modern)]
    assert not any(node.args.kwonlyargs or node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def make(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--file", str(REPO / "Makefile"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPO), **env}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_setup_refuses_before_it_installs_anything(tmp_path: Path) -> None:
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock"):
        (tmp_path / name).touch()
    ended = make(tmp_path, "setup", "PYTHON=python9")
    assert ended.stderr.splitlines()[0].startswith("error: there is no python9 here; install Python 3.11 or newer")
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import platform, sys; platform.machine = lambda: \"arm64\"; "
                    "from pipeline.platforms import main; sys.exit(main())'\n")  # fmt: skip
    fake.chmod(0o755)
    ended = make(tmp_path, "setup", f"PYTHON={fake}")
    assert ended.returncode == 2
    assert "this is a arm64 processor" in ended.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_broken_environment_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock", ".venv/.installed"):
        (tmp_path / name).touch()
    ended = make(tmp_path, "params")
    assert (
        ended.stderr.splitlines()[0] == "error: the virtual environment .venv is broken (moved, or its Python is gone?); rm -rf .venv && make setup"
    )
