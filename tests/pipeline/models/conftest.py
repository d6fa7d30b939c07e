"""A small language model's folder of weights, and a copy to do something to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tiny_models import save_tiny_qwen2


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_qwen2(tmp_path_factory.mktemp("llm"))


@pytest.fixture
def copy(language_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(language_model, tmp_path / "copy@v2")
