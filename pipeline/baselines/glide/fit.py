"""Tune GLIDE's base model on what training users looked at, each image under its own text.

Paper (Implementation Details): the baselines are tuned with a learning rate of 1e-5, in a way that it does not describe. Choices:
1. All weights of the base model are tuned, its text side among them, on the error of the noise; what it says of its variance is left to itself. The
   upsampler, which is told the small picture, stays as it is.
2. By default nothing is tuned (`num_steps: 0`): the embedded model was trained on this very data set.
3. A share of the images has no text, as in GLIDE's own training, so that guidance still has something to lead away from.

Legend: B images of a step, h, w size of the base model's pictures, T steps of its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.baselines.glide.config import STAGE, GlideTuning
from pipeline.checkpoints import open_checkpoints
from pipeline.models.denoising import draw_noise
from pipeline.models.glide.model import Glide
from pipeline.models.glide.sampling import NUM_TIMESTEPS, compute_alphas
from pipeline.randomness import make_generator
from pipeline.training import CurveRow, Plan, TrainingState, descend, run_training

VALIDATION_BATCH = 8


@dataclass(frozen=True)
class TextedPicture:
    """An image to train on, as uint8 pixels of the base model's size, and its text."""

    item_id: str
    pixels_3hw: Tensor
    text: str


class GlideTraining:
    """The base model of a GLIDE."""

    def __init__(self, train: Sequence[TextedPicture], validation: Sequence[TextedPicture], config: GlideTuning, glide: Glide, *, seed: int) -> None:
        self.train, self.validation, self.config, self.glide, self.seed = train, validation, config, glide, seed
        self.alpha_T = torch.from_numpy(compute_alphas(glide.base.shape.schedule)).float()
        self.optimizer = torch.optim.AdamW(
            glide.base.requires_grad_(True).parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def name_tensors(self) -> dict[str, Tensor]:
        """Return the base model's weights."""
        return self.glide.base.state_dict()

    def take_step(self, step: int) -> CurveRow:
        """Take one step on images drawn at random."""
        generator = make_generator(self.seed, STAGE, "images", str(step))
        chosen = torch.randint(len(self.train), (self.config.batch_size,), generator=generator).tolist()
        is_told = torch.rand(len(chosen), generator=generator) >= self.config.dropped_texts
        pictures = [self.train[index] for index in chosen]
        texts = [picture.text if told else "" for picture, told in zip(pictures, is_told.tolist(), strict=True)]
        return {"loss": descend(self.optimizer, self.compute_losses(pictures, texts, name=str(step)).mean(), clip_norm=self.config.clip_norm)}

    @torch.no_grad()
    def validate(self) -> CurveRow:
        """Measure the mean error over validation images under their texts, always with the same timesteps and noises."""
        batches = [self.validation[start : start + VALIDATION_BATCH] for start in range(0, len(self.validation), VALIDATION_BATCH)]
        losses = [self.compute_losses(batch, [picture.text for picture in batch], name="validation").sum().item() for batch in batches]
        return {"validation_loss": sum(losses) / len(self.validation)}

    def compute_losses(self, pictures: Sequence[TextedPicture], texts: Sequence[str], *, name: str) -> Tensor:
        """Compute each picture's error of the noise -> (B,); timestep and noise depend on (seed, name, place, image) alone."""
        glide, size = self.glide, pictures[0].pixels_3hw.shape
        generators = [make_generator(self.seed, STAGE, "noise", name, str(place), picture.item_id) for place, picture in enumerate(pictures)]
        drawn = [draw_noise(size, NUM_TIMESTEPS, generator=generator) for generator in generators]
        timestep_B, noise_B3hw = torch.tensor([timestep for timestep, _ in drawn]), torch.stack([noise for _, noise in drawn])
        pixels_B3hw = torch.stack([picture.pixels_3hw for picture in pictures]).float() / 127.5 - 1
        alpha_B111 = self.alpha_T[timestep_B][:, None, None, None]
        noisy_B3hw = (alpha_B111.sqrt() * pixels_B3hw + (1 - alpha_B111).sqrt() * noise_B3hw).to(glide.device)
        with torch.autocast(glide.device.type, glide.dtype, enabled=glide.dtype != torch.float32):
            text = glide.read_text(glide.base, [glide.text_budget.fit(text).text for text in texts])
            output_B6hw = glide.base(noisy_B3hw, timestep_B.to(glide.device), text)
        return (output_B6hw[:, :3].float() - noise_B3hw.to(glide.device)).square().mean(dim=(1, 2, 3))


def fit_glide(
    train: Sequence[TextedPicture],
    validation: Sequence[TextedPicture],
    config: GlideTuning,
    glide: Glide,
    *,
    revision: str,
    seed: int,
    checkpoint_every: int,
) -> tuple[GlideTraining, TrainingState]:
    """Tune the base model in place, or go on after a kill; the same inputs give the same weights either way."""
    training = GlideTraining(train, validation, config, glide, seed=seed)
    plan = Plan(num_steps=config.num_steps, validate_every=config.validation_every)
    with open_checkpoints(STAGE, code=[fit_glide], inputs=(config, revision, seed, list(train), list(validation))) as checkpoints:
        return training, run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every, label=STAGE)
