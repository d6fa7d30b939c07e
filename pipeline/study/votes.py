"""The answers of a task as numbers: who put which method's picture of which case at which place.

Shapes: P participants, C cases, M methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.study.ballots import Ballot
from pipeline.study.key import Key
from pipeline.study.tasks import Task, list_candidates


@dataclass(frozen=True)
class Votes:
    """Places of one task, 1 is the best; NaN where a participant was not asked about a case."""

    methods: tuple[str, ...]
    rank_PCM: np.ndarray

    @property
    def num_participants(self) -> int:
        """P."""
        return self.rank_PCM.shape[0]

    @property
    def num_cases(self) -> int:
        """C."""
        return self.rank_PCM.shape[1]

    @property
    def asked_PC(self) -> np.ndarray:
        """Who was asked about what."""
        return ~np.isnan(self.rank_PCM[:, :, 0])

    def average_over_cases(self) -> np.ndarray:
        """Return every participant's mean ranks, of shape (P, M)."""
        return np.nanmean(self.rank_PCM, axis=1)

    def average_over_participants(self) -> np.ndarray:
        """Return every case's mean ranks, of shape (C, M)."""
        return np.nanmean(self.rank_PCM, axis=0)


def collect_votes(task: Task, ballots: Sequence[Ballot], key: Key) -> Votes:
    """Return the places that ballots give in a task, without the attention checks; cases that nobody was asked about are left out."""
    methods = list_candidates(task, key.methods)
    shown = {case_id for ballot in ballots for case_id in list_cases(task, key, ballot.group)}
    column = {case_id: index for index, case_id in enumerate(sorted(shown))}
    rank_PCM = np.full((len(ballots), len(column), len(methods)), np.nan)
    for row, ballot in enumerate(ballots):
        for question_id, order in ballot.list_orders().items():
            question = key.groups[ballot.group][question_id]
            if question.task == task.name and not question.is_check:
                for place, picture in enumerate(order, start=1):
                    rank_PCM[row, column[question.case_id], methods.index(question.methods[picture])] = place
    return Votes(methods, rank_PCM)


def list_cases(task: Task, key: Key, group: str) -> list[str]:
    """Return the cases that a group is asked about in a task."""
    return [question.case_id for question in key.groups[group].values() if question.task == task.name and not question.is_check]
