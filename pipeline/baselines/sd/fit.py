"""Tune Stable Diffusion with LoRA on what training users looked at, each image under its own text.

Paper (Implementation Details): the baselines are tuned with a learning rate of 1e-5, in a way that it does not describe. Choices:
1. Adapters on the U-Net's attention are trained, not all weights; nothing in the prompt is personal.
2. By default nothing is tuned (`lora_rank: 0`), so that all methods draw with one model; the embedded one was trained on this very data set.
3. `sd` and its variants draw with the adapters, for which the rank must be asked for in every profile: all other methods learn against the frozen
   model and draw with it.

Legend: B images of a step, C, h, w latent shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.baselines.sd.config import STAGE, StableDiffusionConfig
from pipeline.checkpoints import open_checkpoints
from pipeline.models.denoising import Denoiser, draw_noise
from pipeline.models.lora import add_lora
from pipeline.randomness import make_generator
from pipeline.training import CurveRow, Plan, TrainingState, descend, run_training

VALIDATION_BATCH = 8


@dataclass(frozen=True)
class TextedImage:
    """An image to train on, as latent and text."""

    item_id: str
    latent_Chw: torch.Tensor
    text: str


class LoraTraining:
    """The adapters inside of the denoiser's model."""

    def __init__(
        self, train: Sequence[TextedImage], validation: Sequence[TextedImage], config: StableDiffusionConfig, denoiser: Denoiser, *, seed: int
    ) -> None:
        self.train, self.validation, self.config, self.denoiser, self.seed = train, validation, config, denoiser, seed
        self.weights = add_lora(denoiser.diffusion, rank=config.lora_rank, generator=make_generator(seed, STAGE, "weights"))
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def name_tensors(self) -> dict[str, torch.Tensor]:
        """Return the adapters' weights."""
        return dict(self.weights)

    def take_step(self, step: int) -> CurveRow:
        """Take one step on images drawn at random."""
        generator = make_generator(self.seed, STAGE, "images", str(step))
        chosen = torch.randint(len(self.train), (self.config.batch_size,), generator=generator).tolist()
        loss = compute_losses([self.train[index] for index in chosen], self.denoiser, name=str(step), seed=self.seed).mean()
        return {"loss": descend(self.optimizer, loss, clip_norm=self.config.clip_norm)}

    def validate(self) -> CurveRow:
        """Measure the mean error over validation images."""
        return {"validation_loss": measure(self.validation, self.denoiser, seed=self.seed)}


def fit_lora(
    train: Sequence[TextedImage],
    validation: Sequence[TextedImage],
    config: StableDiffusionConfig,
    denoiser: Denoiser,
    *,
    revision: str,
    seed: int,
    checkpoint_every: int,
) -> tuple[LoraTraining, TrainingState]:
    """Train the adapters, or go on after a kill; the same inputs give the same weights either way."""
    training = LoraTraining(train, validation, config, denoiser, seed=seed)
    plan = Plan(num_steps=config.num_steps, validate_every=config.validation_every)
    with open_checkpoints(STAGE, code=[fit_lora], inputs=(config, revision, seed, list(train), list(validation))) as checkpoints:
        return training, run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every, label=STAGE)


def compute_losses(images: Sequence[TextedImage], denoiser: Denoiser, *, name: str, seed: int) -> torch.Tensor:
    """Compute each image's denoising error under its text -> (B,); timestep and noise depend on (seed, name, place, image) alone."""
    drawn = [
        draw_noise(image.latent_Chw.shape, denoiser.num_timesteps, generator=make_generator(seed, STAGE, "noise", name, str(place), image.item_id))
        for place, image in enumerate(images)
    ]
    prompt_BKd, _ = denoiser.diffusion.encode_prompts([denoiser.diffusion.text_budget.fit(image.text).text for image in images])
    latent_BChw = torch.stack([image.latent_Chw for image in images])
    return denoiser.compute_loss(
        latent_BChw, prompt_BKd, torch.tensor([timestep for timestep, _ in drawn]), torch.stack([noise for _, noise in drawn])
    )


@torch.no_grad()
def measure(images: Sequence[TextedImage], denoiser: Denoiser, *, seed: int) -> float:
    """Measure the mean error over validation images, always with the same timesteps and noises."""
    batches = [images[start : start + VALIDATION_BATCH] for start in range(0, len(images), VALIDATION_BATCH)]
    return sum(compute_losses(batch, denoiser, name="validation", seed=seed).sum().item() for batch in batches) / len(images)
