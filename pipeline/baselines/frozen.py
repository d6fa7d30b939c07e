"""The frozen diffusion model that the baselines train something against, loaded when it is first needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.models.denoising import choose_training_dtype
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision, resolve_model
from pipeline.models.references import read_reference

if TYPE_CHECKING:
    import torch

    from pipeline.models.diffusion import Diffusion


@dataclass(frozen=True)
class FrozenDiffusion:
    """A diffusion model, and which weights in which number format it has."""

    load: Callable[[], Diffusion]
    revision: str


def prepare_diffusion(params: Path, device: torch.device) -> FrozenDiffusion:
    """Name the diffusion model of the params, in the number format that gradients pass through."""
    reference, dtype = read_reference(params, "diffusion"), choose_training_dtype(device)
    load = functools.cache(lambda: load_diffusion(resolve_model(reference), device=device, dtype=dtype))
    return FrozenDiffusion(load, f"{compute_model_revision(reference)} {dtype}")
