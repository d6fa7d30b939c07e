"""kill -9 of everything that `make repro` has started, at a random time or while dvc.lock is rewritten, and the next start."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from tests.torture.tally import Tally
from tests.torture.victim import CHEAP, FORCE, LOCK_CHECK, VERIFY, Victim

MAX_WRITE_SECONDS = 0.04  # of dvc.lock: the kill comes in it
MAX_WAIT_SECONDS = 300
START_SECONDS = 2.0  # of DVC
WARM_SECONDS = 6.0  # of a stage that finds all its rows finished


def kill_once(victim: Victim, seconds: dict[str, float], draw: random.Random, tally: Tally) -> None:
    """Kill a run of some stages, start again, and count what came of it."""
    stages = draw_stages(seconds, draw)
    is_cold, is_forgotten, at_lock = draw.random() < 0.5, draw.random() < 0.5, draw.random() < 0.25
    if is_cold:
        for stage in stages:
            victim.clear_work(stage)
    if is_forgotten:
        victim.forget_results(stages)
    what = f"{' '.join(stages)}{', nothing to go on from' * is_cold}{', not in the cache' * is_forgotten}"
    victim.call(*LOCK_CHECK)
    if at_lock:
        kind = kill_at_lock(victim, stages, draw)
    else:
        after = draw.uniform(0.5, START_SECONDS + sum(seconds[stage] if is_cold else min(seconds[stage], WARM_SECONDS) for stage in stages))
        kind, what = kill_after(victim, stages, after, draw), f"{what}, killed after {after:.2f} s"
    print(f"{kind}: {what}", flush=True)
    judge(victim, kind, what, tally)


def draw_stages(seconds: dict[str, float], draw: random.Random) -> list[str]:
    """Draw one stage or two, the quick ones more often."""
    drawn = draw.choices(CHEAP, [1 / seconds[stage] for stage in CHEAP], k=draw.choice((1, 1, 2)))
    return list(dict.fromkeys(drawn))


def kill_after(victim: Victim, stages: list[str], seconds: float, draw: random.Random) -> str:
    """Kill after this time; return the kind of kill. One in ten also leaves half of the list in which DVC notes what runs."""
    process = begin(victim, stages)
    try:
        process.wait(seconds)
        return "run ended before the kill"
    except subprocess.TimeoutExpired:
        end(process)
    if victim.is_lock_broken():
        return "kill: in the write of dvc.lock, real"
    claims = victim.root / ".dvc" / "tmp" / "rwlock"
    if draw.random() < 0.1 and claims.exists():
        data = claims.read_bytes()
        claims.write_bytes(data[: draw.randrange(len(data) or 1)])
        return "kill: in the write of DVC's rwlock, simulated"
    return "kill: at a random time"


def kill_at_lock(victim: Victim, stages: list[str], draw: random.Random) -> str:
    """Kill while DVC rewrites dvc.lock; one that the kill has left whole is cut off as a kill would have done."""
    lock = victim.root / "dvc.lock"
    before, process = describe(lock), begin(victim, stages)
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while describe(lock) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.0002)
    time.sleep(draw.uniform(0, MAX_WRITE_SECONDS))
    end(process)
    if victim.is_lock_broken():
        return "kill: in the write of dvc.lock, real"
    data = lock.read_bytes()
    lock.write_bytes(data[: draw.randrange(len(data))])
    return "kill: in the write of dvc.lock, simulated"


def begin(victim: Victim, stages: list[str]) -> subprocess.Popen:
    """Start DVC in a session of its own."""
    with open(victim.root / ".killed.log", "w") as log:
        return subprocess.Popen([*FORCE, *stages], cwd=victim.root, env=victim.project.env, stdout=log, stderr=log, start_new_session=True)


def end(process: subprocess.Popen) -> None:
    """Kill the whole session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def describe(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is rewritten."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def judge(victim: Victim, kind: str, what: str, tally: Tally) -> None:
    """Start again as a user would, run the cure if one is named, and count."""
    tally.add(kind, "tried")
    said = victim.start()
    if "is broken (" in said.text or "set aside" in said.text:
        tally.add(kind, "noticed")
    if "Traceback" in said.text:
        tally.fail(kind, f"{what}: a traceback\n{said.text[-3000:]}")
    if said.code:
        if not said.names_the_cure:
            tally.fail(kind, f"{what}: no command that helps was named\n{said.text[-3000:]}")
        tally.add(kind, "cure said")
        said = victim.call(*VERIFY)
        said = said if said.code else victim.start()
    if said.code:
        tally.fail(kind, f"{what}: the cure did not help\n{said.text[-3000:]}")
    elif changed := victim.list_changed():
        tally.fail(kind, f"{what}: silent differences in {', '.join(changed)}")
    else:
        tally.add(kind, "same bytes")
