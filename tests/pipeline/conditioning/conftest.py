"""Tiny models of the hub's classes, made once for the folder's tests."""

from __future__ import annotations

import pytest

from pipeline.models.diffusion import Diffusion, load_diffusion
from pipeline.models.llm import LanguageModel, load_language_model
from tests.tiny_models import save_tiny_qwen2, save_tiny_stable_diffusion


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    return load_diffusion(str(save_tiny_stable_diffusion(tmp_path_factory.mktemp("sd") / "model")))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_language_model(str(save_tiny_qwen2(tmp_path_factory.mktemp("qwen2"))))
