"""Run reflection from tables and frozen models to the trained conditioner: choose cases, gather their facts, fit, summarise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
from pipeline.data.cases import Case
from pipeline.randomness import make_generator
from pipeline.reflection.config import ReflectionConfig
from pipeline.reflection.fit import ReflectionTraining, fit_reflection, plan_training
from pipeline.reflection.inputs import ReflectionTables, build_batch, check_spaces, keep_usable
from pipeline.reflection.live import RowLogger
from pipeline.reflection.step import ReflectionTools
from pipeline.training import TrainingState


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


def list_batches(num_cases: int, *, num_steps: int, batch_cases: int, seed: int) -> list[list[int]]:
    """Plan the case indices of every step: each pass over the cases is a permutation that follows from (seed, pass)."""
    if num_cases == 0:
        raise ValueError("reflection needs at least one training case, but there is none.")
    size = min(batch_cases, num_cases)
    order: list[int] = []
    passes = 0
    while len(order) < num_steps * size:
        generator = make_generator(seed, "reflection-order", str(passes))
        order += torch.randperm(num_cases, generator=generator).tolist()
        passes += 1
    return [order[step * size : (step + 1) * size] for step in range(num_steps)]


def choose_indices(num_cases: int, limit: int, *, seed: int) -> list[int]:
    """Choose at most `limit` validation cases, the same ones for every setting of the training."""
    order = torch.randperm(num_cases, generator=make_generator(seed, "reflection-validation")).tolist()
    return sorted(order[:limit])


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
    checkpoint_every: int,
    log_row: RowLogger = lambda row: None,
) -> tuple[TrainingState, dict[str, Any]]:
    """Train `conditioner` in place and return the training's state and metrics.

    The rows of `inputs` are those of `cases.list_all()`; `identity` names the weights behind a score.
    """
    everyone = cases.list_all()
    gathered = build_batch(everyone, inputs, tables, tools, config, seed=seed, identity=identity)
    check_spaces(gathered, tools, config)
    num_train = len(cases.train)
    train, validation = gathered.select(list(range(num_train))), gathered.select(list(range(num_train, len(everyone))))
    training = ReflectionTraining(conditioner, train, validation, tools, config, batches=cases.batches, seed=seed)
    state = fit_reflection(training, identity=identity, checkpoint_every=checkpoint_every, log_row=log_row)
    counts = {"train_cases": num_train, "validation_cases": len(cases.validation), "skipped_cases": cases.num_skipped}
    return state, {**summarise_fit(state, config), **counts, "seed": seed}


def summarise_fit(state: TrainingState, config: ReflectionConfig) -> dict[str, Any]:
    """Return the metrics of a training: validation before, at the kept step and at the last one."""
    rows = {row["step"]: row for row in state.curves if "validation_score" in row}
    kept_step = state.find_kept_step(plan_training(config))
    names = ("validation_score", "validation_reward", "validation_rank")
    chosen = {"before": rows[0], "kept": rows[kept_step], "last": rows[state.step]}
    return {
        "num_steps": state.step,
        "kept_step": kept_step,
        **{place: {name.removeprefix("validation_"): row[name] for name in names} for place, row in chosen.items()},
    }
