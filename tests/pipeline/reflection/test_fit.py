"""The training loop: it learns, resumes to the same bytes, and keeps what validation says.

Run: `python -m pytest tests/pipeline/reflection/test_fit.py`.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.conditioning.conditioner import save_conditioner
from pipeline.reflection import fit
from pipeline.reflection.run import choose_indices, list_batches, summarise_fit
from pipeline.spreadsheets import write_csv


def run(world, *, name: str = "a", checkpoint_every: int = 2, **more):
    batches = list_batches(8, num_steps=world.config.num_steps, batch_cases=world.config.batch_cases, seed=1)
    training = fit.ReflectionTraining(world.conditioner, world.train, world.validation, world.tools, world.config, batches=batches, seed=1)
    return fit.fit_reflection(training, identity={"models": name}, checkpoint_every=checkpoint_every, **more)


def write_outputs(folder: Path, world, state) -> tuple[bytes, bytes]:
    save_conditioner(folder / "calibrator.safetensors", world.conditioner, summarise_fit(state, world.config))
    write_csv(folder / "curves.csv", state.curves, fit.CURVE_COLUMNS)
    return (folder / "calibrator.safetensors").read_bytes(), (folder / "curves.csv").read_bytes()


# the margin keeps every hinge open, so that the reward is the mean score
LEARN = {
    "num_steps": 40,
    "batch_cases": 8,
    "learning_rate": 0.02,
    "alpha": 1.0,
    "beta": 0.0,
    "gamma": 0.0,
    "margin": 5.0,
    "validation_every": 10,
    "keep": "last",
}


def make_learner(make_world, **changes):
    """Make a world whose validation cases are the training cases: eight toy users do not speak for four others."""
    world = make_world({**LEARN, **changes})
    world.validation = world.train
    return world


def test_the_reward_is_learned_and_the_literal_sign_unlearns_it(make_world) -> None:
    world, literal_world = make_learner(make_world), make_learner(make_world, reward="literal")
    learned = summarise_fit(run(world), world.config)
    literal = summarise_fit(run(literal_world, name="b"), literal_world.config)
    assert learned["before"]["score"] == literal["before"]["score"]
    assert learned["last"]["score"] > learned["before"]["score"] + 0.05
    assert literal["last"]["score"] < literal["before"]["score"] - 0.05


def test_the_calibration_and_semantic_losses_fall(make_world) -> None:
    world = make_learner(make_world, alpha=0.0, beta=0.5, gamma=0.3, num_perturbations=0)
    curves = [row for row in run(world).curves if "loss" in row]
    assert curves[-1]["loss_semantic"] < curves[0]["loss_semantic"]
    assert curves[-1]["loss_calibration"] < curves[0]["loss_calibration"]


def test_a_training_that_breaks_off_ends_with_the_same_bytes(make_world, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = make_world()
    whole = write_outputs(tmp_path / "whole", world, run(world, name="whole"))
    for broken_step in (1, 2, 5):  # before the first checkpoint, right after one, and between two
        observe = fit.observe_step

        def break_off(*args, step: int, broken_step: int = broken_step, observe=observe, **rest):
            return observe(*args, step=step, **rest) if step != broken_step else 1 / 0

        name = f"broken{broken_step}"
        with monkeypatch.context() as patch:
            patch.setattr(fit, "observe_step", break_off)
            with pytest.raises(ZeroDivisionError):
                run(make_world(), name=name)
        world = make_world()
        assert write_outputs(tmp_path / name, world, run(world, name=name)) == whole


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import conftest, test_fit
from pipeline.reflection import fit
observe = fit.observe_step
def kill_at_five(*args, step, **rest):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return observe(*args, step=step, **rest)
fit.observe_step = kill_at_five
test_fit.run(conftest.build_world(), name="killed")
"""


@pytest.mark.slow
def test_kill_9_and_a_restart_end_with_the_same_bytes(make_world, tmp_path: Path) -> None:
    world = make_world()
    whole = write_outputs(tmp_path / "whole", world, run(world, name="whole"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    code = KILLED.format(tests=str(Path(__file__).parent))
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    world = make_world()
    state = run(world, name="killed")
    assert write_outputs(tmp_path / "killed", world, state) == whole


def test_other_settings_of_the_calibrator_start_another_training(make_world) -> None:
    world, other = make_world(), make_world()
    run(world)
    other.conditioner.calibrator.config = dataclasses.replace(other.conditioner.calibrator.config, init_scale=7.0)  # as in the weights of none
    drawn = other.tools.diffusion.num_drawn
    run(other)
    assert other.tools.diffusion.num_drawn > drawn


def test_a_finished_training_is_not_run_again(make_world) -> None:
    world = make_world()
    run(world)
    again = make_world()
    drawn = again.tools.diffusion.num_drawn
    run(again)
    assert again.tools.diffusion.num_drawn == drawn
    assert all(torch.equal(a, b) for a, b in zip(world.conditioner.state_dict().values(), again.conditioner.state_dict().values(), strict=True))


def test_the_kept_weights_are_those_of_the_best_validation(make_world) -> None:
    world = make_world({"num_steps": 8, "learning_rate": 0.05})
    state = run(world)
    scores = {row["step"]: row["validation_score"] for row in state.curves if "validation_score" in row}
    assert list(scores) == [0, 2, 4, 6, 8]
    assert state.find_kept_step(fit.plan_training(world.config)) == max(scores, key=scores.__getitem__)
    assert fit.validate(world.conditioner, world.validation, world.tools, world.config, seed=1)["validation_score"] == max(scores.values())


def test_a_training_that_only_harms_keeps_its_starting_point(make_world) -> None:
    world = make_learner(make_world, reward="literal", keep="best")
    start = {name: value.clone() for name, value in world.conditioner.state_dict().items()}
    state = run(world)
    assert summarise_fit(state, world.config)["kept_step"] == 0
    assert all(torch.equal(value, start[name]) for name, value in world.conditioner.state_dict().items())


def test_patience_ends_a_training_that_does_not_improve(make_world) -> None:
    world = make_learner(make_world, reward="literal", patience=2)
    assert run(world).step == 20


def test_no_step_gives_the_starting_point(make_world) -> None:
    world = make_world({"num_steps": 0})
    state = run(world)
    summary = summarise_fit(state, world.config)
    assert summary["before"] == summary["kept"] == summary["last"]
    assert [row["step"] for row in state.curves] == [0]


def test_every_case_comes_once_a_pass_and_the_plan_is_a_prefix_of_a_longer_one() -> None:
    plan = list_batches(6, num_steps=4, batch_cases=3, seed=1)
    assert sorted(plan[0] + plan[1]) == sorted(plan[2] + plan[3]) == list(range(6))
    assert list_batches(6, num_steps=9, batch_cases=3, seed=1)[:4] == plan
    assert list_batches(6, num_steps=4, batch_cases=3, seed=2) != plan
    assert list_batches(2, num_steps=1, batch_cases=4, seed=1) in ([[0, 1]], [[1, 0]])
    with pytest.raises(ValueError, match="at least one training case"):
        list_batches(0, num_steps=1, batch_cases=4, seed=1)


def test_validation_cases_are_fixed_by_the_seed() -> None:
    assert choose_indices(10, 4, seed=1) == choose_indices(10, 4, seed=1)
    assert choose_indices(3, 99, seed=1) == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"batch_cases": 0}, "batch_cases"),
        ({"alpha": -1.0}, "alpha"),
        ({"num_perturbations": 1}, "use 'center' or 'none'"),
    ],
)
def test_wrong_params_are_explained(world, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(world.config, **change)
