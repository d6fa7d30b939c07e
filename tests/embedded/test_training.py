"""The shared training loop resumes exactly. Run: python -m pytest tests/embedded/test_training.py"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from embedded import training
from embedded.training import LoopConfig, MovingAverage, compute_rate, train_module


class Interrupted(Exception):
    """Stands for a kill."""


def train_line(steps: int, stop_at: int | None = None, *, goes_on: bool = False) -> dict[str, Tensor]:
    """Fit a line to noise; with `stop_at`, die after the checkpoint of that step."""
    torch.manual_seed(0)
    module = nn.Linear(2, 1)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return module(torch.randn((4, 2), generator=generator)).square().mean(), {}

    checkpoints = itertools.count(1)

    def on_checkpoint(_: dict[str, Tensor]) -> dict[str, float]:
        if next(checkpoints) == stop_at:
            raise Interrupted
        return {"held_out": 1.0}

    config = LoopConfig(steps=steps, peak_rate=0.01, warmup_steps=2, checkpoint_seconds=-1, log_steps=1)
    return train_module("line", module, config, compute_loss=compute_loss, on_checkpoint=on_checkpoint, goes_on=goes_on)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "train")
    monkeypatch.setattr(training, "CURVES_DIR", tmp_path / "curves")


def read_curve(folder: Path) -> list[dict]:
    """Read what was recorded, without the times."""
    rows = [json.loads(line) for line in (folder / "curves" / "line.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "step_seconds"} for row in rows]


def test_a_killed_training_ends_with_the_same_weights_and_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train_line(12)
    curve = read_curve(tmp_path)
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "killed")
    with pytest.raises(Interrupted):
        train_line(12, stop_at=5)
    resumed = train_line(12)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert [row for row in curve if "loss" in row] == [row for row in read_curve(tmp_path) if "loss" in row]
    assert {row["step"] for row in curve} == set(range(1, 13))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = train_line(4)
    curve = read_curve(tmp_path)
    again = train_line(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert read_curve(tmp_path) == curve


def test_a_training_that_goes_on_continues_the_curve_even_if_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_line(4)
    first = read_curve(tmp_path)
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "later")
    with pytest.raises(Interrupted):
        train_line(6, stop_at=2, goes_on=True)
    train_line(6, goes_on=True)
    curve = read_curve(tmp_path)
    assert curve[: len(first)] == first
    assert [row["step"] for row in curve if "loss" in row] == list(range(1, 11))


def test_a_new_training_forgets_the_curve_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_line(6)
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "other")
    train_line(3)
    assert {row["step"] for row in read_curve(tmp_path)} == {1, 2, 3}


def test_the_rate_warms_up_to_its_peak_and_ends_at_a_hundredth() -> None:
    config = LoopConfig(steps=110, peak_rate=2.0, warmup_steps=10)
    assert compute_rate(0, config) == pytest.approx(0.2)
    assert compute_rate(10, config) == pytest.approx(2.0)
    assert compute_rate(60, config) == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))
    assert compute_rate(110, config) == pytest.approx(0.02)


def test_the_moving_average_follows_with_its_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    average = MovingAverage(module, decay=0.5)
    nn.init.constant_(module.weight, 1.0)
    average.update(module, step=1000)
    assert average.state["weight"].item() == pytest.approx(0.5)
