"""Learn the pseudo-words of many users in one training: their vectors are independent, so one U-Net pass serves several users.

Paper: Gal et al. 2023, eq. 2, and diffusers' `textual_inversion` example. Departures:
1. The loss is the sum over users of each user's mean: AdamW works number by number, so a user's vectors come out as if trained alone.
2. Latents are computed once, without flips (see `pipeline/models/denoising.py`).
3. A prompt holds the item's own text beside the pseudo-word, as it will at generation, instead of one of 27 neutral templates: a history's
   images show different things, and what they have in common is what the pseudo-word is to learn.
4. An image is noised R times per step, so that one pass of the text encoder serves R of the U-Net.
5. Some images of every user are held out, to see whether the vectors say anything about images that they were not fitted to.
6. The learning rate is far above the 1e-5 that RAGAR's paper names for all baselines, by which some hundred steps would not move a vector, and
   falls linearly to zero: held constant over so few steps, the last draws alone decide where a vector ends.

Legend: U users of a batch, I images per step, R noises per image, V vectors of a pseudo-word, E width of the embedding table, C, h, w latent shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.baselines.ti.config import STAGE, TextualInversionConfig
from pipeline.checkpoints import open_checkpoints
from pipeline.models.denoising import Denoiser, draw_noise
from pipeline.models.pseudo_words import PseudoWordEncoder
from pipeline.randomness import make_generator
from pipeline.training import CurveRow, Plan, TrainingState, descend, fall_linearly, run_training

WORK = "ti_training"  # apart from the rows of finished users


@dataclass(frozen=True)
class Picture:
    """One history image: its latent and what it is called."""

    item_id: str
    latent_Chw: torch.Tensor
    text: str


@dataclass(frozen=True)
class UserPictures:
    """A user's history, split at random: what is trained on and what is held out (empty for a user with one image)."""

    user_id: str
    train: tuple[Picture, ...]
    held_out: tuple[Picture, ...]


def split_pictures(user_id: str, pictures: Sequence[Picture], config: TextualInversionConfig, *, seed: int) -> UserPictures:
    """Hold out `held_out_images` images, chosen by the seed, but never more than leave one to train on."""
    order = torch.randperm(len(pictures), generator=make_generator(seed, STAGE, "split", user_id)).tolist()
    num_held_out = min(config.held_out_images, len(pictures) - 1)
    chosen = [pictures[index] for index in order]
    return UserPictures(user_id, tuple(chosen[num_held_out:]), tuple(chosen[:num_held_out]))


class InversionTraining:
    """The vectors of a batch of users, which all start at the initial word."""

    def __init__(
        self, users: Sequence[UserPictures], config: TextualInversionConfig, encoder: PseudoWordEncoder, denoiser: Denoiser, *, seed: int
    ) -> None:
        self.users, self.config, self.encoder, self.denoiser, self.seed = users, config, encoder, denoiser, seed
        vectors_VE = encoder.init_vectors(config.init_word).to(encoder.diffusion.device)
        self.vectors_UVE = torch.nn.Parameter(vectors_VE.expand(len(users), -1, -1).clone())
        self.optimizer = torch.optim.AdamW([self.vectors_UVE], lr=config.learning_rate, weight_decay=config.weight_decay)

    def name_tensors(self) -> dict[str, torch.Tensor]:
        """Return the vectors."""
        return {"vectors": self.vectors_UVE}

    def take_step(self, step: int) -> CurveRow:
        """Take one step of all users."""
        return {"loss": descend(self.optimizer, self._compute_loss(step))}

    def _compute_loss(self, step: int) -> torch.Tensor:
        """Compute the sum over users of the mean loss over I·R draws of each; what is drawn depends on (seed, user, step) alone -> ()."""
        config, chosen, timesteps, noises = self.config, [], [], []
        for user in self.users:
            generator = make_generator(self.seed, STAGE, user.user_id, str(step))
            for index in torch.randint(len(user.train), (config.images_per_step,), generator=generator).tolist():
                chosen.append(user.train[index])
                for _ in range(config.noises_per_image):
                    timestep, noise_Chw = draw_noise(user.train[index].latent_Chw.shape, self.denoiser.num_timesteps, generator=generator)
                    timesteps.append(timestep)
                    noises.append(noise_Chw)
        prompt_BKD = self._encode(chosen, self.vectors_UVE.repeat_interleave(config.images_per_step, dim=0))
        latent_BChw = torch.stack([picture.latent_Chw for picture in chosen])
        repeated = [tensor.repeat_interleave(config.noises_per_image, dim=0) for tensor in (latent_BChw, prompt_BKD)]
        loss_B = self.denoiser.compute_loss(*repeated, torch.tensor(timesteps), torch.stack(noises))
        return loss_B.view(len(self.users), -1).mean(dim=1).sum()

    @torch.no_grad()
    def validate(self) -> CurveRow:
        """Measure each user's mean loss on held-out images, with the same timesteps and noise at every measurement; None without any."""
        return {"held_out_losses": [self._measure(user, vectors_VE) for user, vectors_VE in zip(self.users, self.vectors_UVE, strict=True)]}

    def _measure(self, user: UserPictures, vectors_VE: torch.Tensor) -> float | None:
        if not user.held_out:
            return None
        num_draws = self.config.held_out_draws
        prompt_HKD = self._encode(user.held_out, vectors_VE.expand(len(user.held_out), -1, -1))
        drawn = [draw_held_out(user, picture, self.config, self.denoiser, seed=self.seed) for picture in user.held_out]
        loss_B = self.denoiser.compute_loss(
            torch.stack([picture.latent_Chw for picture in user.held_out]).repeat_interleave(num_draws, dim=0),
            prompt_HKD.repeat_interleave(num_draws, dim=0),
            torch.cat([timestep_R for timestep_R, _ in drawn]),
            torch.cat([noise_RChw for _, noise_RChw in drawn]),
        )
        return loss_B.mean().item()

    def _encode(self, pictures: Sequence[Picture], vectors_BVE: torch.Tensor) -> torch.Tensor:
        return self.encoder.encode([self.encoder.write_prompt(self.config.template, picture.text) for picture in pictures], vectors_BVE)


def fit_users(
    users: Sequence[UserPictures],
    config: TextualInversionConfig,
    encoder: PseudoWordEncoder,
    denoiser: Denoiser,
    *,
    revision: str,
    seed: int,
    checkpoint_every: int,
) -> tuple[InversionTraining, TrainingState]:
    """Train the vectors of a batch of users, or go on after a kill, measuring held-out images on the way."""
    training = InversionTraining(users, config, encoder, denoiser, seed=seed)
    plan = Plan(num_steps=config.num_steps, validate_every=config.held_out_every, rate=fall_linearly(config.num_steps))
    with open_checkpoints(WORK, code=[fit_users], inputs=(config, revision, seed, list(users))) as checkpoints:
        return training, run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every)


def list_measured_steps(config: TextualInversionConfig) -> list[int]:
    """Return the steps at which held-out images are measured, the start included."""
    return sorted({*range(0, config.num_steps, config.held_out_every), config.num_steps})


def draw_held_out(
    user: UserPictures, picture: Picture, config: TextualInversionConfig, denoiser: Denoiser, *, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw R timesteps, one in each R-th part of the schedule, and noises (R, C, h, w) for a held-out image."""
    generator = make_generator(seed, STAGE, "held out", user.user_id, picture.item_id)
    num = config.held_out_draws
    timestep_R = ((torch.arange(num) + torch.rand(num, generator=generator)) * denoiser.num_timesteps / num).long()
    return timestep_R, torch.randn(num, *picture.latent_Chw.shape, generator=generator)
