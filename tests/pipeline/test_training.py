"""The training loop against plain torch, undisturbed and after kills. Run: python -m pytest tests/pipeline/test_training.py"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from pipeline.artifacts import read_tensors, write_tensors
from pipeline.checkpoints import open_checkpoints
from pipeline.engine import Current
from pipeline.files import write_sealed
from pipeline.training import (
    CurveRow,
    Plan,
    TrainingState,
    build_schedule,
    decay,
    descend,
    descend_on_halves,
    fall_linearly,
    run_training,
    warm_up_and_fall,
)
from pipeline.work import work_dir

REPO = Path(__file__).resolve().parents[2]
NUM_STEPS = 7
PLAN = Plan(num_steps=NUM_STEPS, validate_every=3, rate=fall_linearly(NUM_STEPS))


@pytest.mark.parametrize(("row", "told"), [({"loss": math.nan}, "loss is nan at step 1"), ({"held_out_losses": [0.1, math.inf]}, "losses is inf")])
def test_a_number_that_is_not_finite_ends_a_training_in_one_sentence_and_no_checkpoint_keeps_it(row: CurveRow, told: str) -> None:
    training = ToyTraining()
    training.take_step = lambda step: row
    with open_checkpoints("nan", code=[run_training], inputs=told) as checkpoints:
        with pytest.raises(ValueError, match=f"{told}.*lower its learning_rate"):
            run_training(training, PLAN, checkpoints, checkpoint_every=1)
        assert checkpoints.load(lambda found: None) is None


def make_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))  # with buffers, one of them an integer


def draw_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    input_BD = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
    return input_BD, input_BD.sum(dim=1, keepdim=True)


class ToyTraining:
    """A small network; `scores` are what the validations say, in order."""

    def __init__(self, scores: list[float] | None = None, stop_at: int | None = None) -> None:
        self.model, self.scores, self.stop_at, self.taken = make_model(), scores, stop_at, []
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)

    def name_tensors(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict()

    def take_step(self, step: int) -> CurveRow:
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.taken.append(step)
        input_BD, target_B1 = draw_batch(step)
        return {"loss": descend(self.optimizer, functional.mse_loss(self.model(input_BD), target_B1), clip_norm=0.5)}

    def validate(self) -> CurveRow:
        if self.scores is not None:
            return {"score": self.scores[len(self.taken)]}
        self.model.eval()
        with torch.no_grad():
            error = functional.mse_loss(self.model(draw_batch(99)[0]), draw_batch(99)[1]).item()
        self.model.train()
        return {"error": error}


def run(training: ToyTraining, plan: Plan = PLAN, *, every: int = 2, name: str = "toy", **more) -> TrainingState:
    with open_checkpoints(name, code=[ToyTraining], inputs="f") as checkpoints:
        return run_training(training, plan, checkpoints, checkpoint_every=every, **more)


def train_plainly() -> tuple[dict[str, torch.Tensor], list[float]]:
    """Train the toy with torch alone, and return its tensors and losses."""
    model, losses = make_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(NUM_STEPS):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / NUM_STEPS)
        input_BD, target_B1 = draw_batch(step)
        loss = functional.mse_loss(model(input_BD), target_B1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return model.state_dict(), losses


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def find_checkpoint(name: str = "toy") -> Path:
    (path,) = (work_dir() / name).rglob("checkpoint-*.safetensors")
    return path


def change(edit: Callable[[dict[str, torch.Tensor], dict], object]) -> None:
    """Replace the checkpoint by another one whose seal is right."""
    path = find_checkpoint()
    tensors, facts = read_tensors(path)
    edit(tensors, facts)
    path.unlink()
    write_sealed(path.parent, "checkpoint-00000004", ".safetensors", lambda target: write_tensors(target, tensors, facts))


def test_a_training_ends_with_the_bytes_of_plain_torch() -> None:
    training = ToyTraining()
    state = run(training)
    tensors, losses = train_plainly()
    assert_same(training.name_tensors(), tensors)
    assert [row["loss"] for row in state.curves[1:]] == losses


def test_the_curves_hold_every_step_and_the_validations_that_are_due() -> None:
    rows: list[CurveRow] = []
    state = run(ToyTraining(), on_row=rows.append)
    assert [row["step"] for row in state.curves] == list(range(NUM_STEPS + 1))
    assert [row["step"] for row in state.curves if "error" in row] == [0, 3, 6, 7]
    assert rows == state.curves
    state = run(ToyTraining(), Plan(num_steps=4, validate_every=3, validate_start=False), name="other")
    assert [(row["step"], "error" in row) for row in state.curves] == [(1, False), (2, False), (3, True), (4, True)]


@pytest.mark.parametrize("stop_at", range(NUM_STEPS))
@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_a_training_killed_at_any_step_goes_on_to_the_same_bytes(stop_at: int, every: int) -> None:
    whole, resumed, rows = ToyTraining(), ToyTraining(), []
    expected = run(whole, name="whole")
    with pytest.raises(KeyboardInterrupt):
        run(ToyTraining(stop_at=stop_at), every=every)
    state = run(resumed, every=every, on_row=rows.append)
    assert resumed.taken == list(range(stop_at // every * every, NUM_STEPS))
    assert state.curves == rows == expected.curves
    assert_same(resumed.name_tensors(), whole.name_tensors())


def test_a_finished_training_is_not_taken_up_again_and_its_seconds_stay() -> None:
    first, again = ToyTraining(), ToyTraining()
    state = run(first)
    assert 0 < state.seconds < 60
    assert run(again).seconds == state.seconds
    assert again.taken == []
    assert_same(again.name_tensors(), first.name_tensors())


def test_the_seconds_of_an_interrupted_run_count() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(ToyTraining(stop_at=4))
    change(lambda tensors, facts: facts.update(seconds=1000.0))
    assert 1000 < run(ToyTraining()).seconds < 1060


SCORES = [0.2, 0.1, 0.7, 0.3, 0.7, 0.6, 0.5, 0.4]


@pytest.mark.parametrize("stop_at", [None, 3, 5])
def test_the_best_tensors_are_kept_the_first_of_equals(stop_at: int | None) -> None:
    plan = Plan(num_steps=NUM_STEPS, validate_every=1, score="score", keep="best")
    expected = ToyTraining()
    run(expected, Plan(num_steps=2, validate_every=9), name="short")
    training = ToyTraining(SCORES)
    if stop_at is not None:
        with pytest.raises(KeyboardInterrupt):
            run(ToyTraining(SCORES, stop_at), plan, every=3)
        training.scores = SCORES[stop_at // 3 * 3 :]  # of what is taken in this run
    state = run(training, plan, every=3)
    assert (state.step, state.find_kept_step(plan)) == (NUM_STEPS, 2)
    assert_same(training.name_tensors(), expected.name_tensors())


def test_a_training_that_only_gets_worse_keeps_its_start_or_its_end_as_the_plan_says() -> None:
    worse = [1.0 / (step + 1) for step in range(NUM_STEPS + 1)]
    start, training = ToyTraining(), ToyTraining(worse)
    run(training, Plan(num_steps=NUM_STEPS, validate_every=1, score="score", keep="best"))
    assert_same(training.name_tensors(), start.name_tensors())
    plan = Plan(num_steps=NUM_STEPS, validate_every=1, score="score")
    assert run(ToyTraining(worse), plan, name="last").find_kept_step(plan) == NUM_STEPS


@pytest.mark.parametrize(("stop_after", "last"), [(0, 7), (1, 1), (2, 4), (3, 5), (4, 6)])
def test_validations_without_a_better_score_end_a_training(stop_after: int, last: int) -> None:
    plan = Plan(num_steps=NUM_STEPS, validate_every=1, score="score", stop_after=stop_after)
    assert run(ToyTraining(SCORES), plan, every=100).step == last
    again = ToyTraining(SCORES)
    assert run(again, plan, every=100).step == last
    assert again.taken == []  # how it ended was kept


def record_rates(rate, num_steps: int, *, start: int = 0) -> list[float]:
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    schedule = build_schedule(optimizer, rate, step=start)
    rates = []
    for _ in range(start, num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("rate", "closed_form"),
    [
        (fall_linearly(10), lambda step: 0.3 * (1 - step / 10)),
        (decay(0.9, 4), lambda step: 0.3 * 0.9 ** (step / 4)),
        (Plan(num_steps=1, validate_every=1).rate, lambda step: 0.3),
    ],
)
def test_rates_follow_from_the_step_to_the_last_bit_wherever_a_run_begins(rate, closed_form: Callable[[int], float]) -> None:
    whole = [closed_form(step) for step in range(10)]
    assert record_rates(rate, 10) == whole
    assert record_rates(rate, 10, start=6) == whole[6:]


def test_the_rate_warms_up_and_falls_along_a_cosine_to_zero() -> None:
    rate = warm_up_and_fall(10, 2)
    rates = [rate(step) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[9] < 0.05
    assert rates[10] == pytest.approx(0, abs=1e-9)


# ---- checkpoints


def train_halves(descend_once: Callable[[torch.optim.Optimizer, list[int], Callable, float], float], size: int) -> tuple[list[float], torch.Tensor]:
    """Take five steps on a batch of `size` rows; a weight that the loss does not reach stays without a gradient."""
    torch.manual_seed(1)
    model, unreached = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([*model.parameters(), unreached], lr=0.05, weight_decay=0.1)
    input_ND, losses = torch.randn(20, 3), []
    for step in range(5):
        batch = torch.randint(20, (size,), generator=torch.Generator().manual_seed(step)).tolist()
        losses.append(
            descend_once(optimizer, batch, lambda rows: (model(input_ND[rows]) - input_ND[rows].sum(dim=1, keepdim=True)).square().mean(), 0.5)
        )
    assert unreached.grad is None
    assert unreached.tolist() == [1, 1]
    return losses, torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_step_on_halves_is_a_step_on_the_batch_with_the_same_bytes_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    found = {}
    for workers in (1, 2):
        monkeypatch.setattr(Current, "workers", workers)
        found[workers] = train_halves(lambda optimizer, batch, measure, clip: descend_on_halves(optimizer, batch, measure, clip_norm=clip), size)
    assert found[1][0] == found[2][0]
    assert torch.equal(found[1][1], found[2][1])
    losses, weights = train_halves(lambda optimizer, batch, measure, clip: descend(optimizer, measure(batch), clip_norm=clip), size)
    assert found[1][0] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(found[1][1], weights, rtol=1e-4, atol=1e-5)
