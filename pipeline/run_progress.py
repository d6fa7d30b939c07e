"""Where in the whole run a stage stands: `stage 5 of 12: keywords; about 9 min left in all`.

A stage is a process of its own, which DVC tells its name and nothing more. How many stages the run has follows from dvc.yaml: those that have
run so far, and all that depend on them (at most: DVC skips one whose inputs come out as they were). What ran so far and how long stages took
stands in `.work/`. Nothing here can change a result, and a run in which no stage runs pays nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.files import write_bytes
from pipeline.fingerprint import dump_canonical
from pipeline.integrity.lock import read_pipeline
from pipeline.json_files import read_json
from pipeline.memory import read_start
from pipeline.params import read_document
from pipeline.work import work_dir

CHANGES_NO_RESULT = True

CODE = "code"  # runs after every edit, whichever stages that concerns
KEPT_TIMES = 3  # last ones of a stage; the longest counts, for a stage that finds finished rows says little about the next time
# Seconds of a cold default run (StyleMoji, embedded models) on two CPU cores; other stages take a few.
TYPICAL = {
    "dataset": 12, "captioning": 35, "embedding": 70, "keywords": 125, "ranker": 45, "ranker_check": 48, "mapper": 210, "reflection": 115,
    "generation@sd": 60, "generation@keywords": 55, "generation@global": 60, "generation@ragar": 72, "evaluation": 55,
}  # fmt: skip
TYPICAL_OTHER = 5
TYPICAL_PROFILE = "embedded"
GUESS = "a guess, from the default run on two CPU cores"
Stages = dict[str, set[str]]  # by name, in the order of dvc.yaml, which is that of a run: the stages whose outs it reads


@dataclass
class Standing:
    """A stage's place in its run: `later` are the seconds of the stages after it, None if unknown, and `own` its own."""

    stage: str
    place: int
    count: int
    own: float | None
    later: float | None
    is_guess: bool
    key: str  # under which its seconds are noted
    started: float

    def describe_start(self) -> str:
        """Return the line that is printed when the stage begins."""
        place = f"stage {self.place} of {self.count}: {self.stage}"
        if self.own is None or self.later is None:
            return place
        return f"{place}; about {write_duration(self.own + self.later)} left in all ({GUESS if self.is_guess else 'as long as it took before'})"

    def describe_left(self, seconds_left: float | None) -> str:
        """Return what stands behind a progress line; `seconds_left` are those of the loop that is at work."""
        place = f"stage {self.place} of {self.count}"
        if self.own is None or self.later is None:
            return place
        own = max(self.own - (time.monotonic() - self.started), seconds_left or 0.0, 0.0)
        return f"{place}, about {write_duration(own + self.later)} left in all{' (a guess)' if self.is_guess else ''}"


class Current:
    """The standing of the stage that this process is; None outside of DVC."""

    standing: Standing | None = None


def begin_stage(root: Path) -> str | None:
    """Note that DVC has started this process as a stage, and return the line that says where the run stands; None outside of DVC."""
    stage = os.environ.get("DVC_STAGE", CODE)
    found = find_dvc(os.getpid()) if stage != CODE else None
    stages = read_stages(root) if found else {}
    if found is None or stage not in stages:
        return None
    process, words = found
    ran = note_ran(stage, process)
    run = list_run(stages, ran, choose_targets(stages, words))
    key = describe_material(root / "params.yaml")
    times = read_times().get(key, {})
    is_known = TYPICAL_PROFILE in key.split() or all(name in times for name in run)
    later = run[run.index(stage) + 1 :]
    Current.standing = Standing(
        stage,
        run.index(stage) + 1,
        len(run),
        estimate(stage, times) if is_known else None,
        sum(estimate(name, times) for name in later) if is_known else None,
        any(name not in times for name in [stage, *later]),
        key,
        time.monotonic(),
    )
    return Current.standing.describe_start()


def end_stage() -> None:
    """Note how long the stage has taken."""
    if (standing := Current.standing) is None:
        return
    times = read_times()
    known = times.setdefault(standing.key, {})
    known[standing.stage] = [*known.get(standing.stage, []), round(time.monotonic() - standing.started, 1)][-KEPT_TIMES:]
    with contextlib.suppress(OSError):
        write_bytes(times_path(), dump_canonical(times).encode())
    Current.standing = None


def describe_run_left(seconds_left: float | None) -> str:
    """Return what stands behind a progress line, empty outside of DVC."""
    return Current.standing.describe_left(seconds_left) if Current.standing else ""


def estimate(stage: str, times: dict[str, list[float]]) -> float:
    """Return the seconds that a stage may take."""
    return max(times[stage]) if stage in times else TYPICAL.get(stage, TYPICAL_OTHER)


def describe_material(params: Path) -> str:
    """Return what the seconds of stages depend on most: models and data set."""
    try:
        document = read_document(params)
    except (OSError, ValueError):  # which the stage says better
        document = {}
    blocks = {name: block if isinstance(block := document.get(name), dict) else {} for name in ("models", "dataset")}
    return f"{blocks['models'].get('profile')} {blocks['dataset'].get('name')} {blocks['dataset'].get('raw')}"


def times_path() -> Path:
    """Return the file of the seconds that stages took."""
    return work_dir() / "stage_seconds.json"


def read_times() -> dict[str, dict[str, list[float]]]:
    """Return the seconds that stages took, by material and stage; empty if the file is not there or damaged."""
    try:
        return {key: {name: [float(value) for value in values] for name, values in known.items()} for key, known in read_json(times_path()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note_ran(stage: str, process: int) -> list[str]:
    """Add a stage to those that a DVC process has started, and return them all; notes of processes that are gone are removed."""
    folder = work_dir() / "runs"
    path = folder / f"{process}-{read_start(process)}"
    ran = [stage]
    with contextlib.suppress(OSError):  # a note is worth no failure
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.iterdir():
            number, _, start = other.name.partition("-")
            if number.isdigit() and read_start(int(number)) != start:
                other.unlink()
        ran = [*(path.read_text(encoding="utf-8").split() if path.exists() else []), stage]
        path.write_text("\n".join(ran), encoding="utf-8")
    return ran


def find_dvc(process: int) -> tuple[int, list[str]] | None:
    """Return the DVC process that this one descends from, and the words of its command line; None if there is none."""
    while process > 1:
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None
        if "repro" in words or ("run" in words and {"exp", "experiments"} & set(words)) or "queue-worker" in words:
            return process, words
        process = parent
    return None


def choose_targets(stages: Stages, words: Sequence[str]) -> list[str]:
    """Return the stages that a command line names, a group's by its name too; all of them if it names none."""
    return [name for name in stages if name in words or name.partition("@")[0] in words] or list(stages)


def list_run(stages: Stages, ran: Iterable[str], targets: Iterable[str]) -> list[str]:
    """Return the stages of a run in order: what has run, and what depends on it and is needed for the targets."""
    needed, affected = set(targets), set(ran)
    for name in reversed(stages):
        if name in needed:
            needed |= stages[name]
    for name, reads in stages.items():
        if affected & reads:
            affected.add(name)
    return [name for name in stages if (name in affected and name in needed) or name in ran]


def read_stages(root: Path) -> Stages:
    """Return the stages of dvc.yaml by name, each with those whose outs it reads; the code apart, which concerns all of them."""
    entries = {name: entry for stage, body in read_pipeline(root).items() for name, entry in expand(stage, body).items()}
    outs = {PurePosixPath(out): name for name, entry in entries.items() for out in list_paths(entry.get("outs"))}
    return {name: set() if name == CODE else find_makers(entry, outs) - {name, CODE} for name, entry in entries.items()}


def expand(stage: str, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the stages of an entry of dvc.yaml: itself, or one for each of a group."""
    if "foreach" not in body:
        return {stage: body}
    items = body["foreach"] if isinstance(body["foreach"], dict) else {str(item): item for item in body["foreach"]}
    return {f"{stage}@{key}": fill(body["do"], key, item) for key, item in items.items()}


def fill(value: Any, key: str, item: Any) -> Any:
    """Put a group's item into the places that name it."""
    if isinstance(value, dict):
        return {fill(name, key, item): fill(entry, key, item) for name, entry in value.items()}
    if isinstance(value, list):
        return [fill(entry, key, item) for entry in value]
    if not isinstance(value, str):
        return value
    known = {"key": key, "item": item, **({f"item.{name}": entry for name, entry in item.items()} if isinstance(item, dict) else {})}
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(known.get(match[1], match[0])), value)


def list_paths(entries: Any) -> list[str]:
    """Return the paths of deps or outs."""
    return [path for entry in entries or [] for path in (entry if isinstance(entry, dict) else [entry])]


def find_makers(entry: dict[str, Any], outs: dict[PurePosixPath, str]) -> set[str]:
    """Return the stages whose outs are among a stage's deps."""
    deps = [PurePosixPath(dep) for dep in list_paths(entry.get("deps"))]
    return {maker for out, maker in outs.items() for dep in deps if dep == out or is_within(dep, out)}


def is_within(path: PurePosixPath, other: PurePosixPath) -> bool:
    """Say whether one of two paths holds the other."""
    return path in other.parents or other in path.parents


def write_duration(seconds: float) -> str:
    """Write a duration for people, as exactly as it is known: `40 s`, `12 min`, `2 h 10 min`."""
    if seconds < 60:
        return f"{max(10, round(seconds / 10) * 10)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
