"""Git and DVC beforehand. Run: python -m pytest tests/pipeline/doctor/test_repository.py"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.doctor import __main__ as doctor
from pipeline.doctor import repository
from pipeline.doctor.findings import Finding
from tests.pipeline.doctor.faults import IDENTITY, assert_wrong, git, refuse
from tests.toy_project import REPO


def test_a_project_from_a_zip_file_is_told_how_to_become_a_repository(project: Path) -> None:
    assert repository.check_git() == Finding("ok", "git: a repository")
    shutil.rmtree(project / ".git")
    assert_wrong(repository.check_git(), "there is no repository here (a project from a ZIP file has none); `git init && git add --all && git commit")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["repro", "retrieval", "table1", "exp", "verify", "claims"])
def test_make_says_so_before_anything_runs(project: Path, target: str) -> None:
    shutil.rmtree(project / ".git")
    for name in ("requirements-installer.lock", "requirements.lock", "requirements-weights.lock", ".venv/.installed"):
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


def test_what_is_wrong_with_git_itself_has_no_consequences_among_the_other_checks(project: Path, tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[[[\n")
    assert_wrong(repository.check_git(), f"bad config line 1 in file {tmp_path}/.gitconfig); mend that file")
    assert [check().level for check in (repository.check_commit, repository.check_identity, repository.check_git_writable)] == ["note"] * 3


def test_a_broken_index_and_lost_objects_are_told_apart(project: Path) -> None:
    index = (project / ".git" / "index").read_bytes()
    (project / ".git" / "index").write_bytes(b"garbage")
    assert_wrong(repository.check_git(), "git: it cannot read its index (fatal: ", "`rm .git/index && git reset`")
    (project / ".git" / "index").write_bytes(index)
    assert (repository.check_git().level, repository.check_commit().level) == ("ok", "ok")
    for path in (project / ".git" / "objects").glob("??/*"):
        path.unlink()
    assert_wrong(repository.check_commit(), "git has lost what it holds (`git fsck` says more); get the project again")


def test_a_git_that_was_killed_or_may_not_write_stops_experiments_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "DVC_WAITS", 0.1)
    (project / ".git" / "index.lock").touch()
    assert_wrong(repository.wait_for_git(), ".git/index.lock is there: another git is at work, or was killed; if none is, `rm .git/index.lock`")
    assert repository.wait_for_git in doctor.BEFORE["experiment"]
    doctor.refuse(doctor.BEFORE["repro"])
    (project / ".git" / "index.lock").unlink()
    assert repository.wait_for_git().level == "ok"
    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse(errno.EROFS))
    assert_wrong(repository.wait_for_git(), f"{project}/.git cannot be written to (Read-only file system), and experiments are commits")


def test_a_file_of_the_project_that_this_user_may_not_read_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and Path(path).name != "params.py")
    assert_wrong(repository.check_files(), "pipeline/params.py cannot be read by this user; `chmod u+r` it")
