"""A copy of the repository in an empty folder, with small params, in which tests run `dvc repro` and break things."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SMALL = (
    "dataset=stylemoji_small",
    "dataset.num_concepts=30",
    "comparison=table1",  # with what follows, every stage has something to do
    "comparison.ip_adapter=true",
    "models.look=./data/look",
    "look.num_steps=4",
    "look.max_lessons=16",
    "look.validation_lessons=4",
    "look.validation_every=2",
    "captioning.batch_size=16",
    "embedding.batch_size=32",
    "keywords.batch_size=16",
    "keywords.max_new_tokens=12",
    "ranker.num_neighbors=10",
    "ranker.epochs=10",
    "mapper.img_steps=3",
    "mapper.mapper_steps=10",
    "mapper.max_captions=40",
    "mapper.held_out_captions=16",
    "mapper.attention_steps=20",
    "reflection.num_steps=6",
    "reflection.reward_steps=2",
    "reflection.validation_cases=4",
    "reflection.validation_every=3",
    "sd.lora_rank=2",
    "sd.num_steps=4",
    "sd.validation_images=8",
    "sd.validation_every=2",
    "glide.tuning.num_steps=4",
    "glide.tuning.batch_size=2",
    "glide.tuning.validation_images=4",
    "glide.tuning.validation_every=2",
    "ti.num_steps=4",
    "ti.users_per_batch=4",
    "ti.held_out_every=2",
    "ti_retrieved.num_steps=4",
    "pmg.max_new_tokens=16",
    "pmg.images_per_case=2",
    "pmg.train_cases=4",
    "pmg.num_steps=2",
    "pmg.validation_cases=2",
    "pmg.validation_every=2",
    "pmg.batch_cases=2",
    "pmg_retrieved.num_steps=2",
    "generation.steps=4",
    "generation.batch_size=2",
    "evaluation.num_resamples=100",
    "report.num_users=4",
    "runtime.checkpoint_every=2",
)


def list_ran(output: str) -> list[str]:
    """Return the stages that DVC says it has run."""
    return re.findall(r"Running stage '([^']+)'", output)


class SmallProject:
    """One copy: `root` is its folder, `env` blocks the network for every process started in it."""

    first_output = ""  # of the run that made it

    def __init__(self, root: Path, overrides: tuple[str, ...] = SMALL) -> None:
        self.root, self.env = root, make_environment()
        copy_repository(root)
        self.run("git", "init", "--quiet")
        self.run(sys.executable, "-m", "pipeline.compose", *overrides)
        shutil.copy2(root / "params.yaml", root / "conf" / "config.yaml")  # the small params are this copy's default
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "small")

    @classmethod
    def open(cls, root: Path) -> SmallProject:
        """Take a project that another process has made."""
        project = object.__new__(cls)
        project.root, project.env = root, make_environment()
        return project

    def copy(self, root: Path) -> SmallProject:
        """Copy the project as it stands, with its outs, its cache and its finished rows."""
        shutil.copytree(self.root, root, symlinks=True)
        other = copy.copy(self)
        other.root = root
        return other

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command to its end and return what it printed; a failure shows that output."""
        process = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        output = process.stdout + process.stderr
        if check and process.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {process.returncode}:\n{output[-4000:]}")
        return output

    def repro(self, *targets: str) -> str:
        """Run DVC as `make repro` does, with the stages forked from a process that keeps packages loaded: a third of the time."""
        return self.run("python", "-m", "pipeline.dvc_command", "repro", *targets)

    def kill_when(self, reached: Callable[[], bool], *command: str, seconds: float = 300) -> None:
        """Start a command and kill -9 it and all its children as soon as `reached` says so; AssertionError if it ended before."""
        with open(self.root / ".killed.log", "w") as log:
            process = subprocess.Popen(command, cwd=self.root, env=self.env, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + seconds
        while not reached():
            assert process.poll() is None, f"ended before it could be killed:\n{(self.root / '.killed.log').read_text()[-3000:]}"
            assert time.monotonic() < deadline, "never reached the point to kill it at"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def hash_outs(self, folder: str) -> dict[str, str]:
        """Return the sha256 of every file under data/<folder>."""
        base = self.root / "data" / folder
        paths = [path for path in sorted(base.rglob("*")) if path.is_file()]
        return {path.relative_to(base).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def cut_work(self, stage: str) -> int:
        """Take away a stage's checkpoints and, under every key, every second part of its finished rows; return how many parts are left.

        Every second one, because methods may share a key, one's parts behind the other's: each loses some of its own and keeps some.
        """
        work = self.root / ".work" / stage
        for folder in {path.parent for path in work.rglob("part-*.parquet")}:
            for path in sorted(folder.glob("part-*.parquet"))[::2]:
                path.unlink()
        for path in work.rglob("checkpoint-*.safetensors"):
            path.unlink()
        return len(list(work.rglob("part-*.parquet")))


def make_environment() -> dict[str, str]:
    """Return the environment of this process, with its Python first on the path and the network blocked."""
    environment = {key: value for key, value in os.environ.items() if key not in ("DVC_ROOT", "PYTHONPATH")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(REPO / "tests" / "offline")
    return environment


def copy_repository(root: Path) -> None:
    """Copy tracked and new files; the assembled models are shared with the repository."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPO, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (REPO / name).is_file() and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, root / name)
    models = REPO / ".work" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (root / ".work").mkdir()
    (root / ".work" / "models").symlink_to(models)
