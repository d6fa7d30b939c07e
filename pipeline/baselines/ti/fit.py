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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from pipeline.baselines.ti.config import TextualInversionConfig
from pipeline.models.denoising import Denoiser, draw_noise
from pipeline.models.pseudo_words import PseudoWordEncoder
from pipeline.randomness import make_generator

STAGE = "ti"


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


@dataclass
class InversionState:
    """Everything that the next step of a batch of users needs."""

    vectors_UVE: torch.nn.Parameter
    optimizer: torch.optim.Optimizer
    step: int = 0
    losses: list[list[float | None]] = field(default_factory=list)  # held-out loss of every user, at each measurement


def split_pictures(user_id: str, pictures: Sequence[Picture], config: TextualInversionConfig, *, seed: int) -> UserPictures:
    """Hold out `held_out_images` images, chosen by the seed, but never more than leave one to train on."""
    order = torch.randperm(len(pictures), generator=make_generator(seed, STAGE, "split", user_id)).tolist()
    num_held_out = min(config.held_out_images, len(pictures) - 1)
    chosen = [pictures[index] for index in order]
    return UserPictures(user_id, tuple(chosen[num_held_out:]), tuple(chosen[:num_held_out]))


def build_state(num_users: int, config: TextualInversionConfig, encoder: PseudoWordEncoder) -> InversionState:
    """Build the vectors, all users' at the initial word, and their optimiser."""
    vectors_VE = encoder.init_vectors(config.init_word).to(encoder.diffusion.device)
    vectors_UVE = torch.nn.Parameter(vectors_VE.expand(num_users, -1, -1).clone())
    return InversionState(vectors_UVE, torch.optim.AdamW([vectors_UVE], lr=config.learning_rate, weight_decay=config.weight_decay))


def fit_users(
    users: Sequence[UserPictures],
    config: TextualInversionConfig,
    state: InversionState,
    *,
    encoder: PseudoWordEncoder,
    denoiser: Denoiser,
    seed: int,
    after_step: Callable[[InversionState], None] = lambda state: None,
) -> InversionState:
    """Train the users' vectors from where `state` stands to the last step, measuring held-out images on the way."""
    if state.step == 0 and not state.losses:
        state.losses.append(measure_held_out(users, config, state, encoder=encoder, denoiser=denoiser, seed=seed))
    while state.step < config.num_steps:
        state.optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - state.step / config.num_steps)
        loss = compute_step_loss(users, config, state, encoder=encoder, denoiser=denoiser, seed=seed)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.step += 1
        if state.step == config.num_steps or state.step % config.held_out_every == 0:
            state.losses.append(measure_held_out(users, config, state, encoder=encoder, denoiser=denoiser, seed=seed))
        after_step(state)
    return state


def list_measured_steps(config: TextualInversionConfig) -> list[int]:
    """Return the steps at which held-out images are measured, the start included."""
    return sorted({*range(0, config.num_steps, config.held_out_every), config.num_steps})


def compute_step_loss(
    users: Sequence[UserPictures],
    config: TextualInversionConfig,
    state: InversionState,
    *,
    encoder: PseudoWordEncoder,
    denoiser: Denoiser,
    seed: int,
) -> torch.Tensor:
    """Compute the sum over users of the mean loss over I·R draws of each user; what is drawn depends on (seed, user, step) alone -> ()."""
    chosen, timesteps, noises = [], [], []
    for user in users:
        generator = make_generator(seed, STAGE, user.user_id, str(state.step))
        for index in torch.randint(len(user.train), (config.images_per_step,), generator=generator).tolist():
            chosen.append(user.train[index])
            for _ in range(config.noises_per_image):
                timestep, noise_Chw = draw_noise(user.train[index].latent_Chw.shape, denoiser.num_timesteps, generator=generator)
                timesteps.append(timestep)
                noises.append(noise_Chw)
    prompts = [encoder.write_prompt(config.template, picture.text) for picture in chosen]
    prompt_BKD = encoder.encode(prompts, state.vectors_UVE.repeat_interleave(config.images_per_step, dim=0))
    latent_BChw = torch.stack([picture.latent_Chw for picture in chosen])
    repeated = [tensor.repeat_interleave(config.noises_per_image, dim=0) for tensor in (latent_BChw, prompt_BKD)]
    loss_B = denoiser.compute_loss(*repeated, torch.tensor(timesteps), torch.stack(noises))
    return loss_B.view(len(users), -1).mean(dim=1).sum()


@torch.no_grad()
def measure_held_out(
    users: Sequence[UserPictures],
    config: TextualInversionConfig,
    state: InversionState,
    *,
    encoder: PseudoWordEncoder,
    denoiser: Denoiser,
    seed: int,
) -> list[float | None]:
    """Measure each user's mean loss on held-out images, with the same timesteps and noise at every measurement; None without any."""
    losses: list[float | None] = []
    for user, vectors_VE in zip(users, state.vectors_UVE, strict=True):
        if not user.held_out:
            losses.append(None)
            continue
        prompts = [encoder.write_prompt(config.template, picture.text) for picture in user.held_out]
        prompt_HKD = encoder.encode(prompts, vectors_VE.expand(len(prompts), -1, -1))
        drawn = [draw_held_out(user, picture, config, denoiser, seed=seed) for picture in user.held_out]
        loss_B = denoiser.compute_loss(
            torch.stack([picture.latent_Chw for picture in user.held_out]).repeat_interleave(config.held_out_draws, dim=0),
            prompt_HKD.repeat_interleave(config.held_out_draws, dim=0),
            torch.cat([timestep_R for timestep_R, _ in drawn]),
            torch.cat([noise_RChw for _, noise_RChw in drawn]),
        )
        losses.append(loss_B.mean().item())
    return losses


def draw_held_out(
    user: UserPictures, picture: Picture, config: TextualInversionConfig, denoiser: Denoiser, *, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw R timesteps, one in each R-th part of the schedule, and noises (R, C, h, w) for a held-out image."""
    generator = make_generator(seed, STAGE, "held out", user.user_id, picture.item_id)
    num = config.held_out_draws
    timestep_R = ((torch.arange(num) + torch.rand(num, generator=generator)) * denoiser.num_timesteps / num).long()
    return timestep_R, torch.randn(num, *picture.latent_Chw.shape, generator=generator)
