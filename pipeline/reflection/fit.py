"""Train the calibrator and the mapper over the training users, resumable at every checkpoint (paper: Reflection Module).

Choices where the paper is silent:
1. One model is shared by all users ("model parameters are treated as states" could also mean one model per user).
2. Besides the calibrator the modal mapper is trained, because eq. 14 in our reading reaches nothing else. `trainable: calibrator`
   is the printed sentence, "We update the Balance Calibrator".
3. The step that is kept is the one with the best mean standardised score of the unperturbed images of the validation users
   (`keep: best`); step 0 competes too, so reflection is never worse on them than its starting point. `patience` ends a training
   by the same score; no other user's is looked at.
4. The randomness of step s follows from (seed, s) and the case, so a training that was killed goes on as if it had not been.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.checkpoints import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint
from pipeline.conditioning.conditioner import Conditioner
from pipeline.cost import Clock
from pipeline.randomness import make_generator
from pipeline.reflection.config import ReflectionConfig, Trainable
from pipeline.reflection.live import RowLogger
from pipeline.reflection.step import CaseBatch, ReflectionTools, observe_step, set_gradients, validate
from pipeline.runtime import progress

STAGE = "reflection"
CURVE_COLUMNS = (
    "step",
    "loss",
    "loss_rank",
    "loss_calibration",
    "loss_semantic",
    "grad",
    "grad_rank",
    "grad_calibration",
    "grad_semantic",
    "reward",
    "score",
    "score_reference",
    "score_global",
    "mean_rank",
    "validation_score",
    "validation_reward",
    "validation_rank",
)


@dataclass
class FitState:
    """Where training stands: `step` optimiser steps are done, `best` holds the weights of `best_step`."""

    conditioner: Conditioner
    optimizer: torch.optim.Optimizer
    step: int = 0
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def save(self, fingerprint: str) -> None:
        """Commit everything that the next step needs."""
        tensors = {f"module.{name}": value for name, value in copy_weights(self.conditioner).items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= flatten_optimizer(self.optimizer)
        facts = {"best_step": self.best_step, "curves": self.curves, "seconds": self.clock.stop()}
        save_checkpoint(STAGE, fingerprint, step=self.step, tensors=tensors, facts=facts)

    def restore(self, fingerprint: str) -> bool:
        """Go back to the last checkpoint; False if there is none."""
        saved = load_checkpoint(STAGE, fingerprint)
        if saved is None:
            return False
        self.step, tensors, facts = saved
        self.conditioner.load_state_dict(strip_prefix(tensors, "module."), strict=True)
        self.best = strip_prefix(tensors, "best.")
        self.best_step, self.curves = facts["best_step"], facts["curves"]
        self.clock.resume(facts.get("seconds"))  # unknown to checkpoints of before
        restore_optimizer(self.optimizer, tensors)
        return True

    def record(self, row: dict[str, float]) -> None:
        """Append the numbers of the current step; a better validation score makes its weights the best."""
        self.curves.append({"step": self.step, **row})
        scores = {entry["step"]: entry["validation_score"] for entry in self.curves if "validation_score" in entry}
        if self.step in scores and (self.step == 0 or scores[self.step] > scores[self.best_step]):
            self.best_step = self.step
            self.best = copy_weights(self.conditioner)

    def count_stale(self) -> int:
        """Count the validations since the best one."""
        return sum("validation_score" in entry and entry["step"] > self.best_step for entry in self.curves)


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


def list_trainable(conditioner: Conditioner, trainable: Trainable) -> list[nn.Parameter]:
    """Freeze what is not trained and return the parameters that are."""
    conditioner.mapper.requires_grad_(trainable == "calibrator+mapper")
    return [parameter for parameter in conditioner.parameters() if parameter.requires_grad]


def fit_reflection(
    conditioner: Conditioner,
    train: CaseBatch,
    validation: CaseBatch,
    tools: ReflectionTools,
    config: ReflectionConfig,
    *,
    batches: list[list[int]],
    seed: int,
    fingerprint: str,
    checkpoint_every: int,
    log_row: RowLogger = lambda row: None,
) -> FitState:
    """Run all steps (or go on after a kill) and leave the kept weights in `conditioner`; `log_row` gets every row of the curves."""
    parameters = list_trainable(conditioner, config.trainable)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.999), weight_decay=config.weight_decay)
    state = FitState(conditioner, optimizer)
    if not state.restore(fingerprint):
        state.record(validate(conditioner, validation, tools, config, seed=seed))
    for row in state.curves:
        log_row(row)
    todo = range(state.step, len(batches))
    for step in progress(todo, label=STAGE, total=len(todo)):
        if config.patience and state.count_stale() >= config.patience:
            break
        losses, row = observe_step(conditioner, train.select(batches[step]), tools, config, seed=seed, step=step)
        row |= set_gradients(losses, parameters, config)
        optimizer.step()
        state.step = step + 1
        is_last = state.step == len(batches)
        if is_last or state.step % config.validation_every == 0:
            row |= validate(conditioner, validation, tools, config, seed=seed)
        state.record(row)
        log_row(state.curves[-1])
        if is_last or state.step % checkpoint_every == 0:
            state.save(fingerprint)
    if config.keep == "best":
        conditioner.load_state_dict(state.best, strict=True)
    return state


def summarise_fit(state: FitState, config: ReflectionConfig) -> dict[str, Any]:
    """Return the metrics of a training: validation before, at the kept step and at the last one."""
    rows = {entry["step"]: entry for entry in state.curves if "validation_score" in entry}
    kept = state.best_step if config.keep == "best" else max(rows)
    names = ("validation_score", "validation_reward", "validation_rank")
    chosen = {"before": rows[0], "kept": rows[kept], "last": rows[max(rows)]}
    return {
        "num_steps": state.step,
        "kept_step": kept,
        **{place: {name.removeprefix("validation_"): row[name] for name in names} for place, row in chosen.items()},
    }


def copy_weights(conditioner: Conditioner) -> dict[str, Tensor]:
    """Return a detached CPU copy of the module's state."""
    return {name: value.detach().cpu().clone() for name, value in conditioner.state_dict().items()}


def strip_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
