"""Git and DVC: what `dvc repro` needs, and what experiments need besides, which are commits."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from pipeline.doctor.disk import try_writing
from pipeline.doctor.findings import Check, Finding, judge

DVC_LOCK = Path(".dvc/tmp/lock")
DVC_WAITS = 3.0  # seconds that DVC itself waits for its lock
START = "`git init && git add --all && git commit -m start`, then the same command again"


def ask_git(*arguments: str) -> tuple[int, str]:
    """Run git and return its exit code and what it says, in English."""
    command = ["git", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, "LC_ALL": "C"})
    return done.returncode, (done.stdout + done.stderr).strip()


def check_files() -> Finding:
    """The project's own files."""
    missing = [name for name in (".dvc/config", "dvc.yaml", "conf/config.yaml", "stages", "pipeline") if not Path(name).exists()]
    if missing:
        return Finding("wrong", f"project: {', '.join(missing)} missing here; run this in the project's own folder, or get it again")
    paths = [Path("dvc.yaml"), *(path for folder in ("conf", "pipeline", "stages") for path in sorted(Path(folder).rglob("*.[py]*")))]
    closed = [str(path) for path in paths if not os.access(path, os.R_OK)]
    problem = f"project: {closed[0]} cannot be read by this user; `chmod u+r` it, or get the project again" if closed else None
    return judge(problem, "project: its files are here")


def check_git() -> Finding:
    """A git repository, which DVC refuses to work without."""
    if shutil.which("git") is None:
        return Finding("wrong", "git: it is not installed; install the package git (apt-get install git)")
    code, said = ask_git("rev-parse", "--show-toplevel")
    if "dubious ownership" in said:
        return Finding("wrong", f"git: another user owns this folder, so git refuses it; `git config --global --add safe.directory {Path.cwd()}`")
    if not Path(".git").exists():
        if code == 0:
            return Finding("wrong", f"git: this folder lies inside of another repository, {said}, and is none of its own; {START}")
        return Finding("wrong", f"git: there is no repository here (a project from a ZIP file has none); {START}")
    if code != 0:
        reason = said.splitlines()[0] if said else str(code)
        cure = "mend that file" if "bad config" in said else "get the project again"
        return Finding("wrong", f"git: it cannot read the repository ({reason}); {cure}")
    code, said = ask_git("ls-files", "--", "dvc.yaml")
    if code != 0:
        return Finding("wrong", f"git: it cannot read its index ({said.splitlines()[-1] if said else code}); `rm .git/index && git reset`")
    return Finding("ok", "git: a repository")


def check_commit() -> Finding:
    """A commit that holds the project: experiments are commits on top of it."""
    if check_git().level == "wrong":
        return Finding("note", "commit: none without git")
    if ask_git("rev-parse", "--verify", "HEAD")[0] != 0:
        return Finding("wrong", "commit: there is none yet, and experiments are made on top of one; `git add --all && git commit -m start`")
    if ask_git("cat-file", "-e", "HEAD^{tree}")[0] != 0:
        return Finding("wrong", "commit: git has lost what it holds (`git fsck` says more); get the project again")
    tracked = ask_git("ls-files", "--error-unmatch", "dvc.yaml", "conf/config.yaml")[0] == 0
    return judge(
        None if tracked else "commit: git does not hold the project's files; `git add --all && git commit -m start`",
        "commit: the project's files are in git",
    )


def check_identity() -> Finding:
    """A name and an e-mail address: experiments are commits, which have an author."""
    if check_git().level == "wrong":
        return Finding("note", "identity: none without git")
    variables = [f"GIT_{role}_{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    known = all(os.environ.get(name) for name in variables) or all(ask_git("config", name)[0] == 0 for name in ("user.name", "user.email"))
    cure = 'git config user.name "Your Name" && git config user.email you@example.org'
    return judge(None if known else f"identity: git knows no name of yours, and experiments are commits; `{cure}`", "identity: git knows who you are")


def check_git_writable(wait: float = 0.0) -> Finding:
    """Git's own folder: experiments write commits, and no other git may be at work or have been killed at it."""
    if check_git().level == "wrong":
        return Finding("note", "git's folder: none without git")
    for kind in ("--git-dir", "--git-common-dir"):
        folder = Path(ask_git("rev-parse", kind)[1])
        try:
            try_writing(folder)
        except OSError as error:
            return Finding("wrong", f"git's folder: {folder.resolve()} cannot be written to ({error.strerror}), and experiments are commits")
    path, end = Path(ask_git("rev-parse", "--git-path", "index.lock")[1]), time.monotonic() + wait
    while path.exists():
        if time.monotonic() >= end:
            return Finding("wrong", f"git's folder: {path} is there: another git is at work, or was killed; if none is, `rm {path}`")
        time.sleep(0.1)
    return Finding("ok", "git's folder: can be written to")


def wait_for_git() -> Finding:
    """As `check_git_writable`, with some patience."""
    return check_git_writable(DVC_WAITS)


def check_dvc_lock(wait: float = 0.0) -> Finding:
    """Another DVC at work in the same folder."""
    end = time.monotonic() + wait
    while is_held(DVC_LOCK):
        if time.monotonic() >= end:
            holder = read_holder(DVC_LOCK)
            return Finding("wrong", f"DVC: another DVC process{f' ({holder})' if holder else ''} is at work in this folder; wait for it, or end it")
        time.sleep(0.1)
    return Finding("ok", "DVC: no other process is at work here")


def is_held(path: Path) -> bool:
    """Say whether a process has locked a file."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_holder(path: Path) -> str:
    """Return the number of the process that has written itself into a lock file; empty if it has not."""
    try:
        return path.read_text(encoding="ascii").strip().split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return ""


def wait_for_dvc() -> Finding:
    """As `check_dvc_lock`, with the patience that DVC has itself."""
    return check_dvc_lock(DVC_WAITS)


CHECKS: tuple[Check, ...] = (check_files, check_git, check_commit, check_identity, check_git_writable, check_dvc_lock)
BEFORE_REPRO: tuple[Check, ...] = (check_files, check_git, wait_for_dvc)
BEFORE_EXPERIMENT: tuple[Check, ...] = (check_files, check_git, check_commit, check_identity, wait_for_git, wait_for_dvc)
