"""The shared training loop resumes exactly. Run: python -m pytest tests/embedded/test_training.py"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from embedded import training
from embedded.training import LoopConfig, MovingAverage, compute_rate, train_module


class Interrupted(Exception):
    """Stands for a kill."""


def train_line(steps: int, stop_at: int | None = None) -> dict[str, Tensor]:
    """Fit a line to noise; with `stop_at`, die after the checkpoint of that step."""
    torch.manual_seed(0)
    module = nn.Linear(2, 1)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return module(torch.randn((4, 2), generator=generator)).square().mean(), {}

    def on_checkpoint(_: dict[str, Tensor], step: int) -> None:
        if step == stop_at:
            raise Interrupted

    config = LoopConfig(steps=steps, peak_rate=0.01, warmup_steps=2, checkpoint_seconds=-1, log_steps=1000)
    return train_module("line", module, config, compute_loss=compute_loss, on_checkpoint=on_checkpoint)


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "undisturbed")
    expected = train_line(12)
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "killed")
    with pytest.raises(Interrupted):
        train_line(12, stop_at=5)
    resumed = train_line(12)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_a_finished_training_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path)
    first = train_line(4)
    again = train_line(4)
    assert all(torch.equal(first[name], again[name]) for name in first)


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
