"""What n participants can show, by simulation: how often a study of that size would find a difference that is there.

Before a study, participants of a known taste are simulated (`write_plan`); after it, participants and cases are drawn anew from its own ballots
(`measure_power`), which says what a larger or smaller study would have found if the world is like these ballots. A difference counts as found
if it points the right way and its p-value is below 0.05, with Holm's correction over the task's pairs. Of the three p-values of the results the
crossed one decides; sign flips stand in by the smallest value that they can have with so few participants or cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.metrics.significance import adjust_holm
from pipeline.spreadsheets import write_csv
from pipeline.study.key import Key
from pipeline.study.simulated import simulate_votes
from pipeline.study.statistics import compute_crossed_p
from pipeline.study.votes import Votes
from pipeline.terminal import say

ALPHA = 0.05
SIZES = (10, 20, 30, 50, 100)
SHARES = (0.55, 0.6, 0.7)  # how often the better picture is put before the other
NUM_STUDIES = 200
PLAN_COLUMNS = ("participants", "cases", "share_before", "power")


@dataclass(frozen=True)
class Power:
    """The share of studies with n participants that find the first method better than the second."""

    num_participants: int
    first: str
    second: str
    power: float


def plan_power(num_cases: int, *, sizes: tuple[int, ...] = SIZES, shares: tuple[float, ...] = SHARES, seed: int = 0) -> list[dict[str, float]]:
    """Return the power of every size and share, for two methods; participants and cases differ as `simulate_votes` has it."""
    rows = []
    for share in shares:
        for size in sizes:
            rng = np.random.default_rng([seed, size, round(1000 * share)])
            found = 0
            for _ in range(NUM_STUDIES):
                votes = simulate_votes(("other", "better"), (0.0, math.log(share / (1 - share))), num_participants=size, num_cases=num_cases, rng=rng)
                found += is_found(votes, first=1)[0]
            rows.append({"participants": size, "cases": num_cases, "share_before": share, "power": found / NUM_STUDIES})
    return rows


def write_plan(path: Path, key: Key, *, num_cases: int) -> None:
    """Write the plan of a study, and say what the number of participants that it is planned for can show."""
    group_size = key.num_participants // len(key.groups)
    rows = plan_power(num_cases, sizes=tuple(sorted({*SIZES, max(2, group_size)})))
    write_csv(path, rows, PLAN_COLUMNS)
    own = [row for row in rows if row["participants"] == max(2, group_size)]
    said = ", ".join(f"{row['power']:.2f} at {row['share_before']:.0%}" for row in own)
    say(f"study: power of {own[0]['participants']} participants by how often the better picture is put before the other: {said} ({path})")


def measure_power(votes: Votes, main: str, *, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> list[Power]:
    """Return how often `main` would be found better than each other method, in studies drawn anew from the votes; none from a single participant."""
    if votes.num_participants < 2 or main not in votes.methods:
        return []
    rng = np.random.default_rng(seed)
    first = votes.methods.index(main)
    others = [method for method in votes.methods if method != main]
    rows = []
    for size in sizes:
        found_M = np.zeros(len(others))
        for _ in range(NUM_STUDIES):
            participants = rng.integers(votes.num_participants, size=size)
            cases = rng.integers(votes.num_cases, size=votes.num_cases)
            drawn = votes.rank_PCM[np.ix_(participants, cases)]
            found_M += is_found(Votes(votes.methods, drawn), first=first)
        rows += [Power(size, main, other, float(share)) for other, share in zip(others, found_M / NUM_STUDIES, strict=True)]
    return rows


def is_found(votes: Votes, *, first: int) -> list[bool]:
    """Say of every other method whether a study finds the method `first` better than it."""
    rank_PCM = votes.rank_PCM
    smallest = 2.0 ** (1 - min(rank_PCM.shape[:2]))  # of sign flips
    differences = [rank_PCM[:, :, first] - rank_PCM[:, :, other] for other in range(rank_PCM.shape[2]) if other != first]
    p_values = adjust_holm([max(smallest, compute_crossed_p(difference_PC)) for difference_PC in differences])
    return [bool(np.nanmean(difference_PC) < 0) and p < ALPHA for difference_PC, p in zip(differences, p_values, strict=True)]
