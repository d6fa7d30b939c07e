"""The frozen diffusion model that the baselines train something against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.models.denoising import choose_training_dtype
from pipeline.models.diffusion import load_diffusion
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import read_reference

if TYPE_CHECKING:
    import torch

    from pipeline.models.diffusion import Diffusion


def prepare_diffusion(params: Path, device: torch.device) -> LazyModel[Diffusion]:
    """Name the diffusion model of the params, in the number format that gradients pass through."""
    reference, dtype = read_reference(params, "diffusion"), choose_training_dtype(device)
    return LazyModel(f"{compute_model_revision(reference)} {dtype}", lambda: load_diffusion(reference, device=device, dtype=dtype))
