"""Out of memory as one sentence: what was asked for, what is free, and which param of the stage to lower.

A process that the system kills cannot say so itself. It leaves a note in `.work/running/` while it runs, and the next command that
finds the note of a process that is gone says what happened.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from pipeline.work import work_dir

CHANGES_NO_RESULT = True
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|ALLOC_FAILED|unable to allocate|bad_alloc|malloc of size", re.IGNORECASE
)
WORKER_KILLED = re.compile(r"worker.*killed by signal|terminated abruptly|exited unexpectedly", re.IGNORECASE)
ASKED = re.compile(r"(?:tried to allocate|unable to allocate|malloc of size) ([\d.,]+) ?([KMGTPE]i?B|bytes)?", re.IGNORECASE)
FREE_ON_GPU = re.compile(r"of which ([\d.]+ [KMGT]iB) is free")
# What sets the memory that a stage takes beyond its models and tables; a smaller number changes at most last digits, unless noted in conf/.
PARAMS = {
    "dataset": "dataset.image_size",
    "captioning": "captioning.batch_size",
    "embedding": "embedding.batch_size",
    "keywords": "keywords.batch_size",
    "ranker": "ranker.batch_size or ranker.contrastive_anchors",
    "ranker_check": "ranker_check.batch_size or ranker_check.encoding_batch_size",
    "mapper": "mapper.states_batch_size, mapper.batch_size or mapper.img_batch_size",
    "reflection": "reflection.draw_batch or reflection.batch_cases",
    "sd": "sd.batch_size",
    "glide": "glide.tuning.batch_size",
    "ti": "ti.users_per_batch",
    "pmg": "pmg.batch_size, pmg.batch_cases or pmg.images_per_case",
    "generation": "generation.batch_size",
    "evaluation": "evaluation.batch_size",
    "report": "report.num_users",
}
OTHERS = "close other programs, or use a machine with more memory"  # a stage whose memory no param sets
SIGNAL_KILL = 9


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of Python, torch, numpy or Arrow means that memory has run out, or that the system has killed a worker for it."""
    if isinstance(error, MemoryError):
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"OutOfMemoryError", "BrokenProcessPool"}:
        return True
    return isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)) or WORKER_KILLED.search(str(error)))


def explain_memory(error: BaseException, stage: str = "") -> str:
    """Return the sentence for an error that `is_out_of_memory`."""
    text = " ".join(str(error).split())
    if "BrokenProcessPool" in type(error).__name__ or WORKER_KILLED.search(text):
        fewer = ", or compute in fewer copies with runtime.workers=1" if WORKER_KILLED.search(text) and stage in PARAMS else ""
        return f"a worker process was killed, most likely by the system because memory ran out ({describe_free()}); {advise(stage)}{fewer}."
    on_gpu = "CUDA" in text or "HIP" in text or "CUBLAS" in text or "CUDNN" in text
    free = FREE_ON_GPU.search(text)
    room = f"{free[1]} free on it" if free else ("" if on_gpu else describe_free())
    found = ASKED.search(text)
    asked = f"{write_size(found[1], found[2])} more were asked for" if found else ""
    details = ", ".join(filter(None, [asked, room]))
    last = ", or compute on the CPU with runtime.device=cpu" if on_gpu else ""
    return f"the {'GPU' if on_gpu else 'machine'} has no memory left{f' ({details})' if details else ''}; {advise(stage)}{last}."


def advise(stage: str) -> str:
    """Say what to do about it in a stage; of any other command, in general."""
    return f"lower {PARAMS[stage]}" if stage in PARAMS else OTHERS


def write_size(number: str, unit: str | None) -> str:
    """Write the size in an error's text for people: bytes become GiB or MiB."""
    if unit and unit.lower() != "bytes":
        return f"{number} {unit}"
    return write_bytes_for_people(int(float(number.replace(",", ""))))


def write_bytes_for_people(size: float) -> str:
    """Write a number of bytes, as `1.5 GiB`."""
    unit = next(((name, scale) for name, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if size >= scale), ("bytes", 1))
    return f"{size / unit[1]:.3g} {unit[0]}"


def describe_free() -> str:
    """Say how much memory is free, e.g. `1.5 GiB free`; empty where the system does not tell."""
    free, allowed = measure_free(), measure_allowed()
    if allowed is not None and (free is None or allowed < free):
        return f"{write_bytes_for_people(allowed)} left of what `ulimit -v` allows"
    return "" if free is None else f"{write_bytes_for_people(free)} free"


def measure_allowed() -> int | None:
    """Return the bytes that this process may still map before it meets its limit on addresses; None without a limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    mapped = 0
    with contextlib.suppress(OSError, ValueError):
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    return max(0, limit - mapped)


def measure_free(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may still take: of the machine, or of its container if that has less; None if unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (root / "proc" / "meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            folder = root / "sys" / "fs" / "cgroup"
            found.append(max(0, int((folder / limit).read_text(encoding="ascii")) - int((folder / used).read_text(encoding="ascii"))))
    return min(found, default=None)


@contextlib.contextmanager
def note_running(stage: str) -> Iterator[None]:
    """Keep a note of this process while it runs, which stays behind if the process is killed."""
    path = notes_dir() / f"{os.getpid()}-{read_start(os.getpid())}"
    with contextlib.suppress(OSError):  # a note is worth no failure: what cannot be written says so where it matters
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(stage, encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def take_killed() -> list[str]:
    """Return the stages whose processes were killed since the last call, and remove their notes."""
    killed = []
    for path in sorted(notes_dir().glob("*-*")):
        number, _, start = path.name.partition("-")
        if number.isdigit() and read_start(int(number)) != start:
            with contextlib.suppress(OSError):
                killed.append(path.read_text(encoding="utf-8"))
                path.unlink()
    return killed


def explain_killed(stage: str) -> str:
    """Return the sentence for a stage that was killed."""
    return (
        f"stage {stage} was killed (signal {SIGNAL_KILL}), if not by hand then by the system because memory ran out: {advise(stage)}; "
        "what it has finished is kept."
    )


def notes_dir() -> Path:
    """Return the folder of the notes."""
    return work_dir() / "running"


def read_start(process: int) -> str:
    """Return when a process was started, in clock ticks since the machine was (a number is given again); empty if there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
