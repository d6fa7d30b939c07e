"""One byte flipped as a fault of the disk would, where DVC or a stage keeps something; what reads it next, and the one command that helps."""

from __future__ import annotations

import random
from pathlib import Path

from tests.torture.tally import Tally
from tests.torture.victim import CHEAP, FORCE, VERIFY, Said, Victim, list_files
from tests.toy_project import flip_byte

READERS = {  # a stage, and a cheap one that reads its outs
    "dataset": "captioning",
    "captioning": "embedding",
    "embedding": "retrieval",
    "retrieval": "preference",
    "keywords": "preference",
    "preference": "report",
    "ranker": "evaluation",
    "ranker_check": "evaluation",
    "sd": "generation@sd",
    "evaluation": "report",
}


def flip_once(victim: Victim, number: int, draw: random.Random, tally: Tally) -> None:
    """Flip in turn a byte of finished work, of an out, of an object of the cache and of dvc.lock, and count what came of it."""
    (flip_work, flip_out, flip_object, flip_lock)[number % 4](victim, draw, tally)


def flip_work(victim: Victim, draw: random.Random, tally: Tally) -> None:
    """Flip in a ledger or a checkpoint, and run its stage again."""
    files = {stage: list_work(victim, stage) for stage in CHEAP}
    stage = draw.choice([stage for stage in CHEAP if files[stage]])
    path = draw.choice(files[stage])
    kind = "flip: checkpoint" if path.name.startswith("checkpoint-") else "flip: ledger"
    what = flip(victim, path, draw, kind)
    said = victim.call(*FORCE, stage)
    tally.add(kind, "tried", *["noticed"] * ("is damaged and set aside" in said.text))
    repair(victim, kind, what, said, tally)


def flip_out(victim: Victim, draw: random.Random, tally: Tally) -> None:
    """Flip in an out, and let a stage that reads it, or `make repro`, find it."""
    kind, name = "flip: out", draw.choice(sorted(victim.noted))
    while not (victim.root / name).stat().st_size:
        name = draw.choice(sorted(victim.noted))
    what = flip(victim, victim.root / name, draw, kind)
    out = next(path for path in victim.paths if name == path or name.startswith(f"{path}/"))
    reader = READERS.get(victim.stages[out]) if draw.random() < 0.5 else None
    said = victim.call(*FORCE, reader) if reader else victim.start()
    is_noticed = said.code != 0 and out in said.text
    if not is_noticed and not reader:
        tally.fail(kind, f"{what}: `make repro` did not notice\n{said.text[-2000:]}")
    if not is_noticed and reader:  # it does not read this one
        if changed := [path for path in victim.list_changed() if path != name]:
            tally.fail(kind, f"{what}: silent differences in {', '.join(changed)}\n{said.text[-2000:]}")
        said = victim.call(*VERIFY)
        is_noticed = f"damaged: {out}" in said.text
    tally.add(kind, "tried", *["noticed"] * is_noticed)
    repair(victim, kind, what, said, tally)


def flip_object(victim: Victim, draw: random.Random, tally: Tally) -> None:
    """Flip in DVC's cache, where only `make verify` looks by itself."""
    kind = "flip: cache"
    path = draw.choice([file for file in list_files(victim.root / ".dvc" / "cache") if file.stat().st_size and not file.name.startswith(".")])
    what = flip(victim, path, draw, kind)
    said = victim.call(*VERIFY)
    is_noticed = f"damaged: {path.relative_to(victim.root)}" in said.text
    tally.add(kind, "tried", *["noticed"] * is_noticed)
    if not is_noticed:
        tally.fail(kind, f"{what}: `make verify` did not notice\n{said.text[-2000:]}")
    repair(victim, kind, what, said, tally)


def flip_lock(victim: Victim, draw: random.Random, tally: Tally) -> None:
    """Flip in dvc.lock, and start again."""
    kind = "flip: dvc.lock"
    before = (victim.root / "dvc.lock").read_bytes()
    what = flip(victim, victim.root / "dvc.lock", draw, kind)
    said = victim.start()
    is_noticed = said.code != 0 or "is broken (" in said.text or "Running stage" in said.text or "is cached" in said.text
    tally.add(kind, "tried", *["noticed"] * is_noticed)
    repair(victim, kind, what, said, tally)
    if (victim.root / "dvc.lock").read_bytes() != before:
        tally.add("  of these: dvc.lock has other bytes in the end", "tried")
        (victim.root / "dvc.lock").write_bytes(before)


def flip(victim: Victim, path: Path, draw: random.Random, kind: str) -> str:
    """Flip one bit and say where."""
    place = draw.randrange(path.stat().st_size)
    line = path.read_bytes()[:place].rpartition(b"\n")[2] + path.read_bytes()[place:].partition(b"\n")[0] if path.name == "dvc.lock" else b""
    flip_byte(path, place, 1 << draw.randrange(8))
    what = f"{path.relative_to(victim.root)} at byte {place} {line.decode()}".rstrip()
    print(f"{kind}: {what}", flush=True)
    return what


def repair(victim: Victim, kind: str, what: str, said: Said, tally: Tally) -> None:
    """Look for silent differences, run the cure if a command has failed, and count."""
    if "Traceback" in said.text:
        tally.fail(kind, f"{what}: a traceback\n{said.text[-3000:]}")
    if said.code and not said.names_the_cure:
        tally.fail(kind, f"{what}: no command that helps was named\n{said.text[-3000:]}")
    if not said.code and (changed := victim.list_changed()):
        tally.fail(kind, f"{what}: silent differences in {', '.join(changed)}\n{said.text[-2000:]}")
        return
    if said.code:
        tally.add(kind, *["cure said"] * said.names_the_cure)
        said = victim.call(*VERIFY)
    if not said.code:
        said = victim.start()
    if said.code or "Traceback" in said.text:
        tally.fail(kind, f"{what}: the cure did not help\n{said.text[-3000:]}")
    elif changed := victim.list_changed():
        tally.fail(kind, f"{what}: after the cure other bytes in {', '.join(changed)}\n{said.text[-2000:]}")
    else:
        tally.add(kind, "same bytes")


def list_work(victim: Victim, stage: str) -> list[Path]:
    """List the ledger parts and checkpoints of a stage."""
    files = [file for folder in victim.find_work(stage) for file in list_files(folder)]
    return [path for path in files if path.suffix in (".parquet", ".safetensors")]
