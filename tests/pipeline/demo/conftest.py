"""What the tests of the demo share: a toy run, in which the method `retrieved` stands for RAGAR."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.demo.studio import Studio
from pipeline.draw import delivery
from pipeline.models.fake import FakeDiffusion
from tests.pipeline.draw.toy_run import ToyRun, stand_in_models

METHODS = ("sd", "retrieved")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def toy(tmp_path: Path) -> ToyRun:
    return ToyRun(tmp_path)


@pytest.fixture
def diffusion(monkeypatch: pytest.MonkeyPatch) -> FakeDiffusion:
    return stand_in_models(monkeypatch)


@pytest.fixture
def studio(toy: ToyRun, diffusion: FakeDiffusion) -> Studio:
    return Studio(toy.run, METHODS)


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often something is drawn by what `make draw` calls."""
    import pipeline.demo.studio

    counted: list[int] = []

    def deliver(*args, **options) -> delivery.Outcome:
        counted.append(len(args[0]))
        return delivery.deliver(*args, **options)

    monkeypatch.setattr(pipeline.demo.studio, "deliver", deliver)
    return counted
