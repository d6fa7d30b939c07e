"""The one training loop: take steps, validate, keep curves and seconds, save checkpoints, and go on from them to the same bytes.

A training is a `Training`: named tensors, an optimiser, a step and a validation. How long it goes, its learning rate, and which tensors it
leaves behind is a `Plan`. What a step draws must follow from its index alone: then an interrupted training ends as an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from pipeline.checkpoints import Checkpoint, CheckpointFolder
from pipeline.runtime import progress
from pipeline.side_by_side import compute_side_by_side

CurveRow = dict[str, Any]  # numbers of a step by name, as JSON keeps them
Rate = Callable[[int], float]  # 0-based step -> share of the optimiser's learning rate
FACTS = {"step", "seconds", "curves", "names"}
PARTS = {"weights", "best", "optimizer"}  # of a checkpoint's tensors; their names begin with it


class Training(Protocol):
    """What is trained."""

    optimizer: torch.optim.Optimizer

    def name_tensors(self) -> dict[str, Tensor]:
        """Return the trained tensors themselves, not copies: a checkpoint holds them, and going on writes into them."""
        ...

    def take_step(self, step: int) -> CurveRow:
        """Take the 0-based `step` and return its row of the curves; the loop has set the learning rate."""
        ...

    def validate(self) -> CurveRow:
        """Measure the tensors as they are; what is returned joins the row of the last step, or is that of step 0."""
        ...


@dataclass(frozen=True)
class Plan:
    """How a training goes on and ends."""

    num_steps: int
    validate_every: int  # steps; the last one is validated in any case
    validate_start: bool = True  # the curves begin with a row of step 0
    rate: Rate = lambda step: 1.0
    score: str = ""  # name of a validation's number that is larger for better tensors
    keep: Literal["best", "last"] = "last"  # the tensors of the best score (the first of equals), or those of the last step
    stop_after: int = 0  # validations without a better score that end the training; 0: none do


@dataclass
class TrainingState:
    """Where a training stands."""

    step: int = 0  # steps taken
    seconds: float = 0.0  # of training until the last checkpoint, those of interrupted runs included
    curves: list[CurveRow] = field(default_factory=list)  # each row holds its `step`
    best: dict[str, Tensor] = field(default_factory=dict)  # copies of the best tensors, where they are kept

    def find_kept_step(self, plan: Plan) -> int:
        """Return the step whose tensors are kept."""
        return find_best_step(self.curves, plan.score) if plan.keep == "best" else self.step

    def is_over(self, plan: Plan) -> bool:
        """Say whether too many validations have brought no better score."""
        if not plan.stop_after:
            return False
        best = find_best_step(self.curves, plan.score)
        return sum(plan.score in row and row["step"] > best for row in self.curves) >= plan.stop_after


def find_best_step(curves: list[CurveRow], score: str) -> int:
    """Return the step with the largest score, the first of equals; 0 without any."""
    scores = {row["step"]: row[score] for row in curves if score in row}
    return max(scores, key=scores.__getitem__, default=0)


def run_training(
    training: Training,
    plan: Plan,
    checkpoints: CheckpointFolder,
    *,
    checkpoint_every: int,
    label: str = "",
    on_row: Callable[[CurveRow], None] = lambda row: None,
) -> TrainingState:
    """Train from the last checkpoint, or from the start, to the end, and leave the kept tensors in `training`.

    Progress is shown if there is a `label`; `on_row` gets every row of the curves, those of interrupted runs first.
    """
    state = load_state(training, plan, checkpoints)
    counted_until = time.monotonic()
    if not state.curves and plan.validate_start:
        add_row(state, training.validate(), training, plan)
    for row in state.curves:
        on_row(row)
    schedule = build_schedule(training.optimizer, plan.rate, step=state.step)
    for step in list_steps(state.step, plan.num_steps, label=label):
        if state.is_over(plan):
            break
        row = training.take_step(step)
        schedule.step()
        state.step = step + 1
        is_last = state.step == plan.num_steps
        if is_last or state.step % plan.validate_every == 0:
            row |= training.validate()
        add_row(state, row, training, plan)
        on_row(state.curves[-1])
        if is_last or state.step % checkpoint_every == 0 or state.is_over(plan):
            now = time.monotonic()
            state.seconds, counted_until = state.seconds + now - counted_until, now
            save_state(state, training, checkpoints)
    if plan.keep == "best":
        copy_into(training.name_tensors(), state.best)
    return state


def list_steps(start: int, stop: int, *, label: str) -> Iterable[int]:
    """List the 0-based steps that are left, with progress where it has a label."""
    steps = range(start, stop)
    return progress(steps, label=label, total=len(steps)) if label else steps


def add_row(state: TrainingState, row: CurveRow, training: Training, plan: Plan) -> None:
    """Add the row of the last step to the curves, and copy the tensors if they are the best so far and kept; ValueError if a number is not finite."""
    check_finite(row, step=state.step)
    state.curves.append({"step": state.step, **row})
    if plan.keep == "best" and plan.score in row and find_best_step(state.curves, plan.score) == state.step:
        state.best = {name: tensor.detach().cpu().clone() for name, tensor in training.name_tensors().items()}


def check_finite(row: CurveRow, *, step: int) -> None:
    """Raise ValueError if a number of a step is not finite: no later step would mend it, and a checkpoint would keep it."""
    for name, value in row.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(
                    f"the training's {name.replace('_', ' ')} is {number} at step {step:,}, which later steps cannot mend; lower its learning_rate, "
                    "or set models.dtype and models.language_model_dtype to float32 or bfloat16 where they are float16."
                )


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, *, clip_norm: float = math.inf) -> float:
    """Take one optimiser step down the gradient of `loss`, shortened to `clip_norm` over all parameters; return the loss as a number."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if math.isfinite(clip_norm):
        torch.nn.utils.clip_grad_norm_(list_parameters(optimizer), clip_norm)
    optimizer.step()
    return loss.item()


def descend_on_halves(
    optimizer: torch.optim.Optimizer, batch: Sequence[int], measure: Callable[[Sequence[int]], Tensor], *, clip_norm: float = math.inf
) -> float:
    """Do as `descend` with the loss that `measure` makes of a batch, a mean over what it gets; on CPUs two cores take a half of the batch each.

    The batch is cut where there is one core as well, for the sum of two gradients has other last bits than the gradient of the sum.
    """
    parameters = list_parameters(optimizer)
    middle = len(batch) // 2 if parameters[0].device.type == "cpu" else 0

    def differentiate(part: Sequence[int]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        loss = measure(part) * (len(part) / len(batch))
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    parts = compute_side_by_side(differentiate, [part for part in (batch[:middle], batch[middle:]) if part])
    for parameter, *gradients in zip(parameters, *(gradients for _, gradients in parts), strict=True):
        known = [gradient for gradient in gradients if gradient is not None]
        parameter.grad = sum(known[1:], known[0]) if known else None
    if math.isfinite(clip_norm):
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    return sum(loss for loss, _ in parts).item()


def build_schedule(optimizer: torch.optim.Optimizer, rate: Rate, *, step: int) -> LambdaLR:
    """Build the schedule that stands at `step` and has set the learning rate for it."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # torch asks for it where a schedule does not begin at its start
    return LambdaLR(optimizer, rate, last_epoch=step - 1)


def fall_linearly(num_steps: int) -> Rate:
    """Fall linearly to zero, which the step after the last would have."""
    return lambda step: 1 - step / num_steps


def warm_up_and_fall(num_steps: int, warmup_steps: int) -> Rate:
    """Rise linearly, then fall along a cosine to zero."""

    def rate(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, num_steps - warmup_steps)))

    return rate


def decay(factor: float, num_steps: int) -> Rate:
    """Be multiplied by `factor` in every `num_steps` steps, a little in each."""
    return lambda step: factor ** (step / num_steps)


def list_parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """List what the optimiser changes, in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def save_state(state: TrainingState, training: Training, checkpoints: CheckpointFolder) -> None:
    """Replace the checkpoint."""
    parts = {"weights": training.name_tensors(), "best": state.best}
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    for index, values in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    facts = {"step": state.step, "seconds": state.seconds, "curves": state.curves, "names": sorted(tensors)}
    checkpoints.save(Checkpoint(tensors, facts), step=state.step)


def load_state(training: Training, plan: Plan, checkpoints: CheckpointFolder) -> TrainingState:
    """Put the last checkpoint into the training and say where it stands: at its start without a checkpoint that fits."""
    checkpoint = checkpoints.load(lambda found: check_fit(found, training, plan))
    if checkpoint is None:
        return TrainingState()
    copy_into(training.name_tensors(), take_part(checkpoint.tensors, "weights"))
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in take_part(checkpoint.tensors, "optimizer").items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = value
    training.optimizer.load_state_dict({**training.optimizer.state_dict(), "state": states})
    facts = checkpoint.facts
    return TrainingState(facts["step"], facts["seconds"], facts["curves"], take_part(checkpoint.tensors, "best"))


def check_fit(checkpoint: Checkpoint, training: Training, plan: Plan) -> None:
    """Raise ValueError unless the checkpoint is one that `save_state` could have written for this training."""
    facts, tensors = checkpoint.facts, checkpoint.tensors
    if facts.keys() != FACTS or facts["names"] != sorted(tensors) or not {name.split(".")[0] for name in tensors} <= PARTS:
        raise ValueError("it lacks facts or tensors, or has other ones")
    step, curves = facts["step"], facts["curves"]
    rows = isinstance(curves, list) and all(isinstance(row, dict) and isinstance(row.get("step"), int) for row in curves)
    if not (rows and curves and curves[-1]["step"] == step <= plan.num_steps and isinstance(facts["seconds"], float)):
        raise ValueError("its facts are not those of this training")
    expected = {name: describe(tensor) for name, tensor in training.name_tensors().items()}
    has_best = plan.keep == "best" and any(plan.score in row for row in curves)
    for part, wanted in (("weights", expected), ("best", expected if has_best else {})):
        if {name: describe(tensor) for name, tensor in take_part(tensors, part).items()} != wanted:
            raise ValueError(f"its {part} are not those of this training")
    shapes = {str(index): {parameter.shape, torch.Size()} for index, parameter in enumerate(list_parameters(training.optimizer))}
    for name, tensor in take_part(tensors, "optimizer").items():
        if tensor.shape not in shapes.get(name.split(".")[0], ()):
            raise ValueError("its optimiser is not that of this training")


def take_part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors of a part of a checkpoint by their own names."""
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}


def describe(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    """Return what must be the same of two tensors for one to take the other's values."""
    return tensor.shape, tensor.dtype


@torch.no_grad()
def copy_into(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Write the values of every name into its target."""
    for name, target in targets.items():
        target.copy_(values[name])
