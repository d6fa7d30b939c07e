"""From tables to the trained adapters and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from pipeline.baselines.histories import list_items
from pipeline.baselines.sd.config import STAGE, StableDiffusionConfig
from pipeline.baselines.sd.fit import TextedImage, fit_lora
from pipeline.latents import compute_latents
from pipeline.models.denoising import Denoiser
from pipeline.models.lazy import LazyModel
from pipeline.randomness import make_generator
from pipeline.training import CurveRow

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion


@dataclass(frozen=True)
class LoraResult:
    """What the stage writes; as it is here where nothing is tuned."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=lambda: {"num_images": 0})
    curves: list[CurveRow] = field(default_factory=list)
    seconds: float = 0.0


def run_lora(
    cases: pa.Table,
    items: Path,
    texts: dict[str, str],
    config: StableDiffusionConfig,
    *,
    diffusion: LazyModel[Diffusion],
    seed: int,
    checkpoint_every: int,
) -> LoraResult:
    """Tune on what training users looked at and validate on what validation users did; `texts` are by item_id."""
    parts = {split: list_items(cases, split) for split in ("train", "val")}
    latents, _ = compute_latents(items, [*parts["train"], *parts["val"]], diffusion)
    train, validation = (
        [TextedImage(name, latents[name], texts[name]) for name in part if name in latents and name in texts] for part in parts.values()
    )
    if not train or not validation:
        raise ValueError("no training or no validation user has looked at an image with a text, so there is nothing to tune on.")
    order = torch.randperm(len(validation), generator=make_generator(seed, STAGE, "validation")).tolist()
    validation = [validation[index] for index in sorted(order[: config.validation_images])]
    training, state = fit_lora(
        train, validation, config, Denoiser(diffusion.model), revision=diffusion.revision, seed=seed, checkpoint_every=checkpoint_every
    )
    losses = [row["validation_loss"] for row in state.curves if "validation_loss" in row]
    metrics = {"validation_loss_before": losses[0], "validation_loss": losses[-1], "num_images": len(train)}
    return LoraResult(training.name_tensors(), metrics, state.curves, state.seconds)
