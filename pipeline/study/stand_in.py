"""Models in the participants' place, for want of people: the evaluation ranker and the judge order the same pictures by the run's own scores.

The figures fill the same table and are called a stand-in wherever they stand: they say what these two models prefer, not what people do. Each is a
column of its own, for two instruments are no sample of anybody. Ties (the judge answers by right and wrong) are broken by lot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.artifacts import read_table
from pipeline.draw.finished_run import FINISH, FinishedRun
from pipeline.params import read_section
from pipeline.schemas import SCORES
from pipeline.study.key import Key
from pipeline.study.tasks import MEANING, PERSONALISATION, Task, list_candidates
from pipeline.study.votes import Votes


@dataclass(frozen=True)
class Rater:
    """A model in a participant's place: in a task it orders pictures by the sum of score columns, the larger the better."""

    name: str
    task: Task
    columns: tuple[str, ...]


RATERS = (
    Rater("evaluation ranker", PERSONALISATION, ("delta_r_check",)),
    Rater("judge of styles", PERSONALISATION, ("style_accuracy",)),
    Rater("judge of concepts", MEANING, ("concept_accuracy", "concept_top5")),
    Rater("CLIP of the metrics", MEANING, ("cs",)),
)


def collect_stand_in(run: FinishedRun, key: Key, *, seed: int) -> list[tuple[Rater, Votes]]:
    """Return the votes of every rater whose scores the run has; ValueError if there is none, or if the run is another one."""
    own = {"dataset": read_section(run.params, "dataset.name"), "profile": read_section(run.params, "models.profile")}
    for name, value in own.items():
        if getattr(key, name) != value:
            raise ValueError(
                f"the key is of the {name} {getattr(key, name)}, but the run in this folder is of {value}; its scores are of other pictures."
            )
    scores = {(row["method"], row["case_id"]): row for row in read_table(run.locate("report", "scores"), SCORES).to_pylist()}
    found = []
    for rater in RATERS:
        votes = rate(rater, scores, key, seed=seed)
        if votes.num_cases:
            found.append((rater, votes))
    if not found:
        raise ValueError(f"the run has no scores of the study's cases by all of {', '.join(key.methods)}; {FINISH}.")
    return found


def rate(rater: Rater, scores: Mapping[tuple[str, str], dict[str, Any]], key: Key, *, seed: int) -> Votes:
    """Return a rater's places of every case of which it has all scores."""
    methods = list_candidates(rater.task, key.methods)
    ranks = []
    for number, case_id in enumerate(key.list_cases()):
        rows = [scores.get((method, case_id), {}) for method in methods]
        values = [[row.get(column) for column in rater.columns] for row in rows]
        if all(value is not None for own in values for value in own):
            rng = np.random.default_rng([seed, number])
            order = np.lexsort((rng.random(len(methods)), [-sum(own) for own in values]))
            ranks.append(np.argsort(order) + 1.0)
    return Votes(methods, np.array(ranks).reshape(1, len(ranks), len(methods)))
