"""What the tests of draw and export share: a toy run, and a small world for the rankers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.models.fake import FakeDiffusion
from tests.pipeline.draw.toy_run import ToyRun, stand_in_models


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of small files, a hundredth of a second each


@pytest.fixture
def toy(tmp_path: Path) -> ToyRun:
    return ToyRun(tmp_path)


@pytest.fixture
def diffusion(monkeypatch: pytest.MonkeyPatch) -> FakeDiffusion:
    return stand_in_models(monkeypatch)
