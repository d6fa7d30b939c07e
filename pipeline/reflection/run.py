"""Run reflection from tables and frozen models to the trained conditioner: choose cases, gather their facts, fit, summarise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
from pipeline.data.cases import Case
from pipeline.fingerprint import compute_fingerprint
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.fit import STAGE, FitState, choose_indices, fit_reflection, list_batches, summarise_fit
from pipeline.reflection.inputs import ReflectionTables, build_batch, check_spaces, keep_usable
from pipeline.reflection.live import RowLogger
from pipeline.reflection.step import ReflectionTools
from pipeline.work import open_work


@dataclass(frozen=True)
class ReflectionCases:
    """The cases of a run: those that its steps visit, and the fixed ones that it is validated on."""

    train: list[Case]
    validation: list[Case]
    batches: list[list[int]]  # indices into `train`, a list per step
    num_skipped: int  # cases without what a reward needs

    def list_all(self) -> list[Case]:
        """Return the training cases, then the validation cases."""
        return [*self.train, *self.validation]


def plan_cases(
    train: Sequence[Case], validation: Sequence[Case], tables: ReflectionTables, tools: ReflectionTools, config: ReflectionConfig, *, seed: int
) -> ReflectionCases:
    """Choose the cases that the steps visit; others are not even read."""
    usable_train, usable_validation = keep_usable(train, tables, tools), keep_usable(validation, tables, tools)
    if not usable_validation:
        raise ValueError(f"reflection needs at least one usable validation case, but none of {len(validation)} is.")
    batches = list_batches(len(usable_train), num_steps=config.num_steps, batch_cases=config.batch_cases, seed=seed)
    visited = sorted({index for batch in batches for index in batch})
    place_of = {index: place for place, index in enumerate(visited)}
    return ReflectionCases(
        train=[usable_train[index] for index in visited],
        validation=[usable_validation[i] for i in choose_indices(len(usable_validation), config.validation_cases, seed=seed)],
        batches=[[place_of[index] for index in batch] for batch in batches],
        num_skipped=len(train) + len(validation) - len(usable_train) - len(usable_validation),
    )


def run_reflection(
    conditioner: Conditioner,
    cases: ReflectionCases,
    inputs: ConditionInputs,
    tables: ReflectionTables,
    tools: ReflectionTools,
    config: ReflectionConfig,
    *,
    seed: int,
    identity: dict[str, str],
    data_hash: str,
    checkpoint_every: int,
    log_row: RowLogger = lambda row: None,
) -> tuple[FitState, dict[str, Any]]:
    """Train `conditioner` in place and return the training's state and metrics.

    The rows of `inputs` are those of `cases.list_all()`; `identity` names the weights behind a score, `data_hash` all the rest.
    """
    everyone = cases.list_all()
    gathered = build_batch(everyone, inputs, tables, tools, config, seed=seed, identity=identity)
    check_spaces(gathered, tools, config)
    num_train = len(cases.train)
    fingerprint = compute_fingerprint(STAGE, config, seed, identity, data_hash)
    with open_work(STAGE, code=[fit_reflection], inputs=fingerprint):
        state = fit_reflection(
            conditioner,
            gathered.select(list(range(num_train))),
            gathered.select(list(range(num_train, len(everyone)))),
            tools,
            config,
            batches=cases.batches,
            seed=seed,
            fingerprint=fingerprint,
            checkpoint_every=checkpoint_every,
            log_row=log_row,
        )
    counts = {"train_cases": num_train, "validation_cases": len(cases.validation), "skipped_cases": cases.num_skipped}
    return state, {**summarise_fit(state, config), **counts, "seed": seed}
