"""A project to look into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.doctor.faults import IDENTITY, git


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the checks look for, in a git repository with one commit and no identity of its own."""
    root = tmp_path / "ragar"
    for name in (".dvc/config", "dvc.yaml", "conf/config.yaml", "stages/entry.py", "pipeline/params.py", "data/raw/items.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "dvc.yaml").write_text("stages:\n  a: {cmd: echo}\n")
    (root / ".dvc" / "config").write_text("[hydra]\n    enabled = true\n")
    (root / ".dvc" / "tmp").mkdir()
    (root / "params.yaml").write_text("dataset: {name: folder, raw: data/raw}\nmodels: {clip: embedded/clip}\nruntime: {device: auto}\n")
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_ROOT", str(root))
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in (*IDENTITY, "HF_HOME", "HF_HUB_CACHE", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    git("init", "--quiet")
    git("add", "--all")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "start")
    return root
