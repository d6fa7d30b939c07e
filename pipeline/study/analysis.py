"""One column of Table 3: everything that the votes of a task say, by people or by one model in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.metrics.intervals import Interval
from pipeline.metrics.significance import adjust_holm
from pipeline.study.power import Power, measure_power
from pipeline.study.statistics import Agreement, Overall, Pair, compare_all, compare_pairs, compute_mean_ranks, estimate_strengths, measure_agreement
from pipeline.study.tasks import Task
from pipeline.study.votes import Votes

MAIN = "ragar"


@dataclass(frozen=True)
class Column:
    """A task's figures; `rater` names the model that stands in for people."""

    task: Task
    rater: str
    num_participants: int
    num_cases: int
    means: dict[str, Interval]
    strengths: dict[str, Interval]
    pairs: list[Pair]
    by_participants: Overall
    by_cases: Overall
    agreement: Agreement
    powers: list[Power]

    @property
    def title(self) -> str:
        """What stands above the column."""
        return f"{self.task.heading} ({self.rater})" if self.rater else self.task.heading


def analyse(task: Task, votes: Votes, *, seed: int, rater: str = "") -> Column:
    """Compute the figures of a column."""
    main = MAIN if MAIN in votes.methods else votes.methods[-1]
    return Column(
        task=task,
        rater=rater,
        num_participants=votes.num_participants,
        num_cases=votes.num_cases,
        means=compute_mean_ranks(votes, seed=seed),
        strengths=estimate_strengths(votes, seed=seed),
        pairs=compare_pairs(votes, seed=seed),
        by_participants=compare_all(votes.average_over_cases()),
        by_cases=compare_all(votes.average_over_participants()),
        agreement=measure_agreement(votes),
        powers=measure_power(votes, main, seed=seed),
    )


def adjust_pairs(columns: Sequence[Column]) -> dict[tuple[str, str, str], float]:
    """Return Holm's p of every pair by (column's title, first, second): all pairwise tests of the table are one family."""
    tested = [(column.title, pair.first, pair.second, pair.p) for column in columns for pair in column.pairs if pair.p is not None]
    adjusted = adjust_holm([p for *_, p in tested])
    return {(title, first, second): p for (title, first, second, _), p in zip(tested, adjusted, strict=True)}
