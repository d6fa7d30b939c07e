"""The models of a benchmark: where each lies, on which device and in which number format, and how the stages use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.captioning import CaptioningConfig
from pipeline.embedding import EmbeddingConfig
from pipeline.generation.config import GenerationConfig
from pipeline.keywords.extract import KeywordsConfig
from pipeline.models.folders import resolve_model
from pipeline.models.llm import choose_dtype
from pipeline.params import load_params, load_seed, read_section

STAGES = {"captioning": CaptioningConfig, "embedding": EmbeddingConfig, "keywords": KeywordsConfig, "generation": GenerationConfig}
ROLES = ("captioner", "clip", "visual", "language_model", "diffusion")


@dataclass(frozen=True)
class Setting:
    """Folders of models by their role, the configs of the stages by name, and in what is computed."""

    params: Path
    folders: dict[str, str]
    configs: dict[str, Any]
    seed: int
    device: torch.device
    dtype: torch.dtype
    language_dtype: torch.dtype


def read_setting(params: Path, device: torch.device) -> Setting:
    """Read the models and configs of the params, whose embedded models are put together if need be."""
    return Setting(
        params=params,
        folders={role: resolve_model(read_section(params, f"models.{role}")) for role in ROLES},
        configs={stage: load_params(params, stage, config_class) for stage, config_class in STAGES.items()},
        seed=load_seed(params),
        device=device,
        dtype=torch.float32,
        language_dtype=choose_dtype(read_section(params, "models.language_model_dtype"), device),
    )
