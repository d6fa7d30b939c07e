"""What is kept of a finished run: its scores by user, what it cost, and what the claims ask of it, in one small file under docs/results/runs/.

A DVC experiment lives in one clone's cache; a record is a file in git, under the experiment's name, which ends in a hash of parameters, code and
inputs. Pages and claims are made from records alone. So whoever has the repository can make them again without drawing a picture, check every
interval, or go on with a series that another machine began. `--rerun` runs again what only a record knows, and says how far the scores agree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from experiments.plan import HASH_LENGTH, Plan
from experiments.results import Cost, RunResult, read_result
from experiments.store import list_stored, open_experiment
from pipeline.artifacts import read_provenance, read_table, write_table
from pipeline.metrics.definitions import define_metrics
from pipeline.schemas import Table
from pipeline.terminal import say

FOLDER = "runs"  # beside the pages
FORMAT = 1
NAME = re.compile(rf"(?P<run>ragar-.+)-[0-9a-f]{{{HASH_LENGTH}}}")
USERS = Table("record", {"method": pa.string(), "user_id": pa.string()}, key=("method", "user_id"), open_metrics=True)  # means over a user's cases
HINT = "delete it, and the same command runs it again"


@dataclass(frozen=True)
class Records:
    """The records of a folder; a finished DVC experiment that has none is given one as soon as it is asked for."""

    folder: Path
    root: Path
    rerun: bool = False  # what has no DVC experiment here counts as not finished
    remade: set[str] = field(default_factory=set)

    def find(self, fingerprint: str) -> str | None:
        """Return the name of a finished run, None if nobody has finished it."""
        kept, stored = self.find_kept(fingerprint), list_stored(self.root).get(fingerprint)
        return kept.stem if kept and not self.must_rerun(fingerprint) else stored.name if stored else None

    def keep(self, fingerprint: str) -> str | None:
        """Return the name of a finished run, which then has a record; None if nobody has finished it."""
        kept, stored = self.find_kept(fingerprint), list_stored(self.root).get(fingerprint)
        if kept and not self.must_rerun(fingerprint):
            return kept.stem
        if stored is None:
            return None
        with open_experiment(stored, root=self.root) as fetch:
            result = read_result(stored.name, fetch)
        if kept:
            say(describe_agreement(read_record(kept), result))
        write_record(self.folder, result)
        self.remade.add(fingerprint)
        return stored.name

    def drop_older(self, plans: Sequence[Plan]) -> None:
        """Remove what newer records of the same run have replaced: at the end, so that a series changes no file that git holds."""
        kept = {path.stem for plan in plans if (path := self.find_kept(plan.fingerprint))}
        runs = {get_run(name) for name in kept}
        for other in self.folder.glob("ragar-*.parquet"):
            if other.stem not in kept and get_run(other.stem) in runs:
                other.unlink()

    def find_kept(self, fingerprint: str) -> Path | None:
        """Return the file of a record."""
        return next(self.folder.glob(f"ragar-*-{fingerprint}.parquet"), None)

    def must_rerun(self, fingerprint: str) -> bool:
        """Say whether a record alone does not count."""
        return self.rerun and fingerprint not in self.remade

    def read(self, plans: Sequence[Plan]) -> dict[str, RunResult]:
        """Return the results of the finished plans by run name; runs with one fingerprint share one object."""
        read: dict[str, RunResult] = {}
        for fingerprint in dict.fromkeys(plan.fingerprint for plan in plans):
            if name := self.keep(fingerprint):
                read[fingerprint] = read_record(self.folder / f"{name}.parquet")
        return {plan.run.name: read[plan.fingerprint] for plan in plans if plan.fingerprint in read}


def write_record(folder: Path, result: RunResult) -> None:
    """Keep a result."""
    rows: dict[tuple[str, Any], dict[str, Any]] = {}
    for method, columns in result.by_user.items():
        for metric, users in columns.items():
            for user, value in users.items():
                rows.setdefault((method, user), {"method": method, "user_id": user})[metric] = value
    facts = {
        "format": FORMAT,
        "profile": result.profile,
        "perceptual": result.perceptual,
        "seed": result.seed,
        "num_resamples": result.num_resamples,
        "level": result.level,
        "dataset": result.dataset,
        "costs": {method: asdict(cost) for method, cost in result.costs.items()},
        "trainings": result.trainings,
        "assignment_p": result.assignment_p,
        "held_out_share": result.held_out_share,
        "stage_seconds": result.stage_seconds,
        "metrics": {method: sorted(columns) for method, columns in result.by_user.items()},  # also those that no user has
    }
    write_table(folder / f"{result.experiment}.parquet", list(rows.values()), USERS, provenance=facts)


def read_record(path: Path) -> RunResult:
    """Read a record; ValueError if it is damaged, or of another format."""
    try:
        table, facts = read_table(path, USERS), read_provenance(path)
    except ValueError as error:
        raise ValueError(f"{error} It is the record of a finished run: {HINT}.") from error
    if facts.get("format") != FORMAT:
        raise ValueError(f"{path} is a record of format {facts.get('format')}, and this code reads format {FORMAT}: {HINT}.")
    metrics = {metric.name: metric for metric in define_metrics(facts["perceptual"])}
    by_user: dict[str, dict[str, dict[Any, float]]] = {method: {name: {} for name in names} for method, names in facts["metrics"].items()}
    for row in table.to_pylist():
        for name in facts["metrics"][row["method"]]:
            if (value := row.get(name)) is not None:
                by_user[row["method"]][name][row["user_id"]] = value
    return RunResult(
        experiment=path.stem,
        profile=facts["profile"],
        perceptual=facts["perceptual"],
        seed=facts["seed"],
        num_resamples=facts["num_resamples"],
        level=facts["level"],
        metrics=metrics,
        by_user=by_user,
        dataset=facts["dataset"],
        costs={method: Cost(**cost) for method, cost in facts["costs"].items()},
        trainings=facts["trainings"],
        assignment_p=facts["assignment_p"],
        held_out_share=facts["held_out_share"],
        stage_seconds=facts["stage_seconds"],
    )


def get_run(experiment: str) -> str:
    """Return an experiment's name without its hash."""
    match = NAME.fullmatch(experiment)
    assert match, f"{experiment} is no experiment's name"
    return match["run"]


def describe_agreement(kept: RunResult, made: RunResult) -> str:
    """Say how far the scores of a run that was made again agree with those on record."""
    ours, theirs = flatten(made), flatten(kept)
    if ours == theirs:
        return f"    {made.experiment}: the scores on record came out again, to the last bit"
    shared = ours.keys() & theirs.keys()
    differing = [key for key in shared if not math.isclose(ours[key], theirs[key], rel_tol=1e-9, abs_tol=1e-12)]
    return (
        f"    {made.experiment}: {len(differing)} of {len(shared)} scores differ from those on record, "
        f"{len(ours.keys() ^ theirs.keys())} have no counterpart; the new ones are on record now"
    )


def flatten(result: RunResult) -> dict[tuple[str, str, Any], float]:
    """Return all values by method, metric and user."""
    return {(m, name, user): value for m, columns in result.by_user.items() for name, users in columns.items() for user, value in users.items()}
