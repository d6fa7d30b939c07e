"""Tune Stable Diffusion with LoRA on what training users looked at, each image under its own text.

Paper (Implementation Details): the baselines are tuned with a learning rate of 1e-5, in a way that it does not describe. Choices:
1. Adapters on the U-Net's attention are trained, not all weights; nothing in the prompt is personal.
2. By default nothing is tuned (`lora_rank: 0`): the embedded model was trained on this very data set.
3. `sd` and its variants draw with the adapters. TI and PMG train parts of their own, and RAGAR draws with the frozen model.

Legend: B images of a step, C, h, w latent shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pipeline.baselines.sd.config import StableDiffusionConfig
from pipeline.checkpoints import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint
from pipeline.cost import Clock
from pipeline.models.denoising import Denoiser, draw_noise
from pipeline.models.lora import add_lora
from pipeline.randomness import make_generator
from pipeline.runtime import progress

STAGE = "sd"
CURVE_COLUMNS = ("step", "loss", "validation_loss")
VALIDATION_BATCH = 8


@dataclass(frozen=True)
class TextedImage:
    """An image to train on, as latent and text."""

    item_id: str
    latent_Chw: torch.Tensor
    text: str


@dataclass
class TuningState:
    """Everything that the next step needs."""

    weights: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    step: int = 0
    curves: list[dict[str, Any]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def save(self, fingerprint: str) -> None:
        """Write the checkpoint."""
        tensors = {f"lora/{name}": value for name, value in self.weights.items()} | flatten_optimizer(self.optimizer)
        save_checkpoint(STAGE, fingerprint, step=self.step, tensors=tensors, facts={"curves": self.curves, "seconds": self.clock.stop()})

    def restore(self, fingerprint: str) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = load_checkpoint(STAGE, fingerprint)
        if saved is None:
            return
        self.step, tensors, facts = saved
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[f"lora/{name}"])
        restore_optimizer(self.optimizer, tensors)
        self.curves = facts["curves"]
        self.clock.resume(facts["seconds"])


def tune(
    train: Sequence[TextedImage],
    validation: Sequence[TextedImage],
    config: StableDiffusionConfig,
    denoiser: Denoiser,
    *,
    fingerprint: str,
    seed: int,
    checkpoint_every: int,
) -> TuningState:
    """Train the adapters inside of the denoiser's model, or go on after a kill; the same inputs give the same weights either way."""
    weights = add_lora(denoiser.diffusion, rank=config.lora_rank, generator=make_generator(seed, STAGE, "weights"))
    optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    state = TuningState(weights, optimizer)
    state.restore(fingerprint)
    if not state.curves:
        state.curves.append({"step": 0, "validation_loss": measure(validation, denoiser, seed=seed)})
    for _ in progress(range(state.step, config.num_steps), label=STAGE, total=config.num_steps - state.step):
        chosen = torch.randint(len(train), (config.batch_size,), generator=make_generator(seed, STAGE, "images", str(state.step))).tolist()
        loss = compute_losses([train[index] for index in chosen], denoiser, name=str(state.step), seed=seed).mean()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), config.clip_norm)
        state.optimizer.step()
        state.step += 1
        row = {"step": state.step, "loss": loss.item()}
        is_last = state.step == config.num_steps
        if is_last or state.step % config.validation_every == 0:
            row["validation_loss"] = measure(validation, denoiser, seed=seed)
        state.curves.append(row)
        if is_last or state.step % checkpoint_every == 0:
            state.save(fingerprint)
    return state


def compute_losses(images: Sequence[TextedImage], denoiser: Denoiser, *, name: str, seed: int) -> torch.Tensor:
    """Compute each image's denoising error under its text -> (B,); timestep and noise depend on (seed, name, place, image) alone."""
    drawn = [
        draw_noise(image.latent_Chw.shape, denoiser.num_timesteps, generator=make_generator(seed, STAGE, "noise", name, str(place), image.item_id))
        for place, image in enumerate(images)
    ]
    prompt_BKd, _ = denoiser.diffusion.encode_prompts([image.text for image in images])
    latent_BChw = torch.stack([image.latent_Chw for image in images])
    return denoiser.compute_loss(
        latent_BChw, prompt_BKd, torch.tensor([timestep for timestep, _ in drawn]), torch.stack([noise for _, noise in drawn])
    )


@torch.no_grad()
def measure(images: Sequence[TextedImage], denoiser: Denoiser, *, seed: int) -> float:
    """Measure the mean error over validation images, always with the same timesteps and noises."""
    batches = [images[start : start + VALIDATION_BATCH] for start in range(0, len(images), VALIDATION_BATCH)]
    return sum(compute_losses(batch, denoiser, name="validation", seed=seed).sum().item() for batch in batches) / len(images)
