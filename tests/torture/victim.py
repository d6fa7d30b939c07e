"""A finished small run that is broken again and again, what its owner would do each time, and whether its outs are the old ones after it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.integrity.lock import find_fault, read_outs
from tests.small_project import SmallProject

CHEAP = (
    "dataset",
    "captioning",
    "embedding",
    "retrieval",
    "keywords",
    "preference",
    "ranker",
    "ranker_check",
    "sd",
    "generation@original",
    "generation@truth",
    "generation@sd",
    "evaluation",
    "report",
)
LOCK_CHECK = (sys.executable, "-m", "pipeline.integrity", "lock")
REPRO = (sys.executable, "-m", "pipeline.dvc_command", "repro")  # as `make repro` does
OUTS_CHECK = (sys.executable, "-m", "pipeline.integrity", "outs")
VERIFY = (sys.executable, "-m", "pipeline.integrity", "verify")
MIN_SECONDS = 2.0  # no stage imports its libraries in less
FORCE = (*REPRO, "--force", "--single-item")


@dataclass(frozen=True)
class Said:
    """What one or more commands have printed; `code` is the exit code of the last one."""

    code: int
    text: str

    @property
    def names_the_cure(self) -> bool:
        """Say whether it names the one command that helps."""
        return "`make verify`" in self.text or "`make repro`" in self.text


class Victim:
    """One copy of the finished run; `noted` is the sha256 of every file of its outs."""

    def __init__(self, project: SmallProject) -> None:
        self.project, self.root = project, project.root
        self.paths = [out.path for out in read_outs(self.root)]
        self.stages = {out.path: out.stage for out in read_outs(self.root)}
        self.noted = self.hash_outs()

    def hash_outs(self) -> dict[str, str]:
        """Hash every file of every out that the finished run had; a file that is missing has no entry."""
        files = [file for path in self.paths for file in list_files(self.root / path)]
        return {file.relative_to(self.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    def list_changed(self) -> list[str]:
        """Return the files of the outs that are not, or no longer, what they were."""
        found = self.hash_outs()
        return sorted(path for path in self.noted.keys() | found.keys() if self.noted.get(path) != found.get(path))

    def call(self, *command: str) -> Said:
        """Run a command to its end."""
        process = subprocess.run(command, cwd=self.root, env=self.project.env, capture_output=True, text=True, check=False)
        return Said(process.returncode, process.stdout + process.stderr)

    def start(self) -> Said:
        """Do what `make repro` does: the outs are also looked at if DVC has failed."""
        first, second = self.call(*LOCK_CHECK), self.call(*REPRO)
        third = self.call(*OUTS_CHECK)
        return Said(first.code or second.code or third.code, first.text + second.text + third.text)

    def measure(self) -> dict[str, float]:
        """Return how many seconds each stage took when the run was made: from the end of the one before it to its own."""
        ends = dict.fromkeys(self.stages.values(), 0.0)
        for path, stage in self.stages.items():
            ends[stage] = max([ends[stage], *(file.stat().st_mtime for file in list_files(self.root / path))])
        ordered = sorted(ends, key=ends.__getitem__)
        starts = [(self.root / "params.yaml").stat().st_mtime, *(ends[stage] for stage in ordered)]
        return {stage: max(ends[stage] - start, MIN_SECONDS) for stage, start in zip(ordered, starts, strict=False)}

    def find_work(self, stage: str) -> list[Path]:
        """Return the folders of a stage's ledgers and checkpoints."""
        folder = self.root / ".work" / stage.replace("@", "/")
        return [path for path in (folder, *folder.parent.glob(f"{folder.name}-*")) if path.is_dir()]

    def clear_work(self, stage: str) -> None:
        """Leave a stage nothing to go on from."""
        for folder in self.find_work(stage):
            shutil.rmtree(folder)

    def forget_results(self, stages: list[str]) -> None:
        """Take what the stages made out of DVC's cache, so that DVC cannot put it back and has to run them."""
        cache = self.root / ".dvc" / "cache"
        paths = {path for path, stage in self.stages.items() if stage in stages}
        for out in read_outs(self.root):
            if out.path in paths:
                (cache / "files" / "md5" / out.md5[:2] / out.md5[2:]).unlink(missing_ok=True)
        for run in (cache / "runs").glob("??/*/*"):
            if any(out["path"] in paths for out in yaml.load(run.read_bytes(), Loader=yaml.CSafeLoader)["outs"]):
                run.unlink()

    def is_lock_broken(self) -> bool:
        """Say whether dvc.lock is one that DVC was killed while writing."""
        return find_fault(self.root) is not None


def list_files(path: Path) -> list[Path]:
    """List a file itself, or the files of a folder; nothing for a path that is not there."""
    return [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path] * path.is_file()


def make_finished(folder: Path) -> SmallProject:
    """Run the small setting to its end in `folder`, or take what is finished there."""
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        SmallProject(folder / "base").repro()
        done.touch()
    return SmallProject.open(folder / "base")
