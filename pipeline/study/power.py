"""What n participants can show, by simulation: how often a study of that size would find a difference that is there.

Before a study, participants of a known taste are simulated (`write_plan`); after it, participants and cases are drawn anew from its own ballots
(`measure_power`), which says what a larger or smaller study would have found if the world is like these ballots. A difference counts as found
if it points the right way and the larger of two paired t tests, over participants and over cases, is below 0.05, with Holm's correction over the
task's pairs. (The results use sign flips instead of t tests, which give the same to within a few hundredths and take a thousand times as long.)
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
from pipeline.study.votes import Votes
from pipeline.terminal import say

ALPHA = 0.05
SIZES = (5, 10, 20, 30, 50, 100)
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
    others = [index for index in range(rank_PCM.shape[2]) if index != first]
    means, p_values = [], []
    for other in others:
        difference_PC = rank_PCM[:, :, first] - rank_PCM[:, :, other]
        asked_PC = ~np.isnan(difference_PC)
        filled_PC = np.where(asked_PC, difference_PC, 0.0)
        by_axis = (filled_PC.sum(axis)[asked_PC.any(axis)] / asked_PC.sum(axis)[asked_PC.any(axis)] for axis in (1, 0))
        means.append(float(filled_PC.sum() / max(1, asked_PC.sum())))
        p_values.append(max(compute_t_p(difference_N) for difference_N in by_axis))
    return [mean < 0 and p < ALPHA for mean, p in zip(means, adjust_holm(p_values), strict=True)]


def compute_t_p(difference_N: np.ndarray) -> float:
    """Return the two-sided p-value of a paired t test; equal differences are certain, unless they are zero."""
    from scipy.special import stdtr

    count = len(difference_N)
    if count < 2:
        return 1.0
    mean, spread = difference_N.mean(), difference_N.std(ddof=1)
    if spread < 1e-12:
        return 0.0 if abs(mean) > 1e-12 else 1.0
    return float(2 * stdtr(count - 1, -abs(mean) / (spread / math.sqrt(count))))
