"""Train PMG's soft preference embeddings with the frozen diffusion model's own loss, on what training users looked at.

Paper: Shen et al. 2024, section 3.3: the condition is the encoded keywords with the soft embeddings behind them, the image one that the
user looked at. Data, batch and steps are not known. Departures:
1. The images of a step are left out of the soft prompt, or it could simply repeat what it reads.
2. A pass through the language model, which costs most, serves several images, and each image several timesteps and noises.
3. The keywords of a case are named once from its whole history, so they also know the images that a step leaves out.
4. The target keywords of a training image are its text alone where `num_target_keywords` is 0; otherwise they already say how it looks.

Legend: B cases of a step, I images per case, R noises per image, M soft embeddings, K tokens of an encoded text, d token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from pipeline.baselines.pmg.config import PmgConfig
from pipeline.baselines.pmg.keywords import ItemWords
from pipeline.baselines.pmg.prompts import build_soft_prompt, wrap_soft_prompt, write_image_prompt
from pipeline.checkpoints import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint
from pipeline.cost import Clock
from pipeline.models.denoising import Denoiser, draw_noise
from pipeline.models.soft_prompt import SoftPreference, read_shape
from pipeline.randomness import make_generator
from pipeline.runtime import progress

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LanguageModel

STAGE = "pmg"
CURVE_COLUMNS = ("step", "loss", "validation_loss")


@dataclass(frozen=True)
class PmgCase:
    """A user's history with its preference keywords, as training and validation read it."""

    case_id: str
    history: tuple[str, ...]  # oldest first; items without a latent are read but never drawn
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSet:
    """What a step draws from: cases, words and latents."""

    train: Sequence[PmgCase]
    validation: Sequence[PmgCase]
    words: ItemWords
    latents: dict[str, torch.Tensor]  # item_id -> (C, h, w)

    def list_images(self, case: PmgCase) -> list[str]:
        """List the case's items that can be drawn, each once."""
        return [item_id for item_id in dict.fromkeys(case.history) if item_id in self.latents]


@dataclass
class PmgTools:
    """The frozen models."""

    language_model: LanguageModel
    diffusion: Diffusion
    denoiser: Denoiser


@dataclass
class PmgState:
    """Everything that the next step needs."""

    soft: SoftPreference
    optimizer: torch.optim.Optimizer
    step: int = 0
    clock: Clock = field(default_factory=Clock)
    curves: list[dict[str, Any]] = field(default_factory=list)

    def save(self, fingerprint: str) -> None:
        """Write the checkpoint."""
        tensors = {f"soft.{name}": value for name, value in self.soft.state_dict().items()} | flatten_optimizer(self.optimizer)
        save_checkpoint(STAGE, fingerprint, step=self.step, tensors=tensors, facts={"curves": self.curves, "seconds": self.clock.stop()})

    def restore(self, fingerprint: str) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = load_checkpoint(STAGE, fingerprint)
        if saved is None:
            return
        self.step, tensors, facts = saved
        self.soft.load_state_dict({name.removeprefix("soft."): value for name, value in tensors.items() if name.startswith("soft.")})
        restore_optimizer(self.optimizer, tensors)
        self.curves = facts["curves"]
        self.clock.resume(facts["seconds"])


@dataclass(frozen=True)
class Batch:
    """The rows of a loss: soft prompts (B) and, for each of their B·I·R images, keywords, latent, timestep and noise."""

    soft_prompts: list[str]
    image_prompts: list[str]
    latents: torch.Tensor
    timesteps: torch.Tensor
    noises: torch.Tensor


def build_state(training_set: TrainingSet, config: PmgConfig, tools: PmgTools, *, seed: int) -> PmgState:
    """Build the untrained module and its optimiser."""
    shape = read_shape(tools.language_model, num_prefix=config.num_prefix, num_soft=config.num_soft, token_dim=tools.diffusion.token_dim)
    mean_row_D, mean_norm = tools.language_model.measure_embedding()
    prompts = [write_image_prompt((), case.keywords, style_weight=1) for case in training_set.train]
    states_BKd, mask_BK = tools.diffusion.encode_prompts(prompts)
    generator = make_generator(seed, STAGE, "weights")
    soft = SoftPreference(shape, mean_row_D=mean_row_D, mean_norm=mean_norm, mean_state_d=states_BKd[mask_BK].mean(dim=0), generator=generator)
    soft = soft.to(tools.diffusion.device)
    return PmgState(soft, torch.optim.AdamW(soft.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay))


def train_soft(
    state: PmgState, training_set: TrainingSet, config: PmgConfig, tools: PmgTools, *, fingerprint: str, seed: int, checkpoint_every: int
) -> PmgState:
    """Take all steps, or go on after a kill; the same inputs give the same weights either way."""
    state.restore(fingerprint)
    validation = [draw_batch([case], training_set, config, tools, name="validation", seed=seed) for case in training_set.validation]
    if not state.curves:
        state.curves.append({"step": 0, "validation_loss": fmean(measure(validation, tools, state.soft))})
    for _ in progress(range(state.step, config.num_steps), label=STAGE, total=config.num_steps - state.step):
        row = take_step(state, training_set, config, tools, seed=seed)
        if state.step == config.num_steps or state.step % config.validation_every == 0:
            row["validation_loss"] = fmean(measure(validation, tools, state.soft))
        state.curves.append(row)
        if state.step == config.num_steps or state.step % checkpoint_every == 0:
            state.save(fingerprint)
    return state


def take_step(state: PmgState, training_set: TrainingSet, config: PmgConfig, tools: PmgTools, *, seed: int) -> dict[str, Any]:
    """Take one optimiser step and return the row of the curves."""
    generator = make_generator(seed, STAGE, "cases", str(state.step))
    chosen = torch.randint(len(training_set.train), (config.batch_cases,), generator=generator).tolist()
    batch = draw_batch([training_set.train[index] for index in chosen], training_set, config, tools, name=str(state.step), seed=seed)
    loss = compute_losses(batch, tools, state.soft).mean()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.soft.parameters(), config.clip_norm)
    state.optimizer.step()
    state.step += 1
    return {"step": state.step, "loss": loss.item()}


def draw_batch(cases: Sequence[PmgCase], training_set: TrainingSet, config: PmgConfig, tools: PmgTools, *, name: str, seed: int) -> Batch:
    """Draw I images of each case, R noises of each, and write the prompts; what is drawn depends on (seed, name, case) alone."""
    soft_prompts, image_prompts, latents, timesteps, noises = [], [], [], [], []
    for case in cases:
        generator = make_generator(seed, STAGE, "batch", name, case.case_id)
        images = training_set.list_images(case)
        order = torch.randperm(len(images), generator=generator)[: config.images_per_case].tolist()
        drawn = [images[index % len(images)] for index in (order * config.images_per_case)[: config.images_per_case]]
        left = [item_id for item_id in case.history if item_id not in drawn] or list(case.history)
        soft_prompts.append(write_soft_prompt(left, training_set.words, config, tools.language_model))
        for item_id in drawn:
            target = training_set.words.list_target(item_id, num_keywords=config.num_target_keywords)
            for _ in range(config.noises_per_image):
                timestep, noise = draw_noise(training_set.latents[item_id].shape, tools.denoiser.num_timesteps, generator=generator)
                image_prompts.append(write_image_prompt(target, case.keywords, style_weight=1))
                latents.append(training_set.latents[item_id])
                timesteps.append(timestep)
                noises.append(noise)
    return Batch(soft_prompts, image_prompts, torch.stack(latents), torch.tensor(timesteps), torch.stack(noises))


def write_soft_prompt(item_ids: Sequence[str], words: ItemWords, config: PmgConfig, language_model: LanguageModel) -> str:
    """Write the soft prompt about some items, as the model reads it."""
    prompt = build_soft_prompt(words.describe(item_ids, max_items=config.max_items))
    return wrap_soft_prompt(prompt, language_model, prompt_style=config.prompt_style)


def compute_losses(batch: Batch, tools: PmgTools, soft: SoftPreference | None) -> torch.Tensor:
    """Compute the denoising error of every image -> (B·I·R,); without `soft` the condition is the keywords alone."""
    prompt_BKd, _ = tools.diffusion.encode_prompts(batch.image_prompts)
    prompt_BKd = prompt_BKd.to(tools.diffusion.device)
    if soft is not None:
        soft_BMd = soft(batch.soft_prompts, tools.language_model)
        prompt_BKd = torch.cat([prompt_BKd, soft_BMd.repeat_interleave(len(batch.image_prompts) // len(soft_BMd), dim=0)], dim=1)
    return tools.denoiser.compute_loss(batch.latents, prompt_BKd, batch.timesteps, batch.noises)


@torch.no_grad()
def measure(batches: Sequence[Batch], tools: PmgTools, soft: SoftPreference | None) -> list[float]:
    """Measure the mean error of every validation case, always with the same images, timesteps and noises."""
    return [compute_losses(batch, tools, soft).mean().item() for batch in batches]
