"""Train PMG's soft preference embeddings with the frozen diffusion model's own loss, on what training users looked at.

Paper: Shen et al. 2024, section 3.3: the condition is the encoded keywords with the soft embeddings behind them, the image one that the
user looked at. Data, batch and steps are not known. Departures:
1. The images of a step are left out of the soft prompt, or it could simply repeat what it reads.
2. A pass through the language model, which costs most, serves several images, and each image several timesteps and noises.
3. The keywords of a case are named once from its whole history, so they also know the images that a step leaves out.
4. Where `num_target_keywords` is 0, the target keywords of a training image are its text alone, which does not say how it looks.

Legend: B cases of a step, I images per case, R noises per image, M soft embeddings, K tokens of an encoded text, d token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from pipeline.baselines.pmg.config import STAGE, PmgConfig
from pipeline.baselines.pmg.keywords import ItemWords
from pipeline.baselines.pmg.prompts import build_soft_prompt, wrap_soft_prompt, write_image_prompt
from pipeline.checkpoints import open_checkpoints
from pipeline.models.denoising import Denoiser, draw_noise
from pipeline.models.soft_prompt import SoftPreference, read_shape
from pipeline.randomness import make_generator
from pipeline.training import CurveRow, Plan, TrainingState, descend, run_training

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LanguageModel

WITHOUT_EFFECT = ("selection", "max_rejected_fraction", "batch_size", "max_new_tokens")  # on the training, given its keywords


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

    def list_facts(self, config: PmgConfig) -> list[Any]:
        """List all that a training reads of the set: cases, what is said of their items, and the latents."""
        item_ids = sorted({item_id for case in (*self.train, *self.validation) for item_id in case.history})
        said = {
            item_id: (self.words.describe([item_id], max_items=1), self.words.list_target(item_id, num_keywords=config.num_target_keywords))
            for item_id in item_ids
        }
        return [list(self.train), list(self.validation), said, {item_id: self.latents[item_id] for item_id in item_ids if item_id in self.latents}]


@dataclass
class PmgTools:
    """The frozen models."""

    language_model: LanguageModel
    diffusion: Diffusion
    denoiser: Denoiser


@dataclass(frozen=True)
class Batch:
    """The rows of a loss: soft prompts (B) and, for each of their B·I·R images, keywords, latent, timestep and noise."""

    soft_prompts: list[str]
    image_prompts: list[str]
    latents: torch.Tensor
    timesteps: torch.Tensor
    noises: torch.Tensor


class SoftTraining:
    """The soft preference embeddings."""

    def __init__(self, training_set: TrainingSet, config: PmgConfig, tools: PmgTools, *, seed: int) -> None:
        self.training_set, self.config, self.tools, self.seed = training_set, config, tools, seed
        self.soft = build_soft(training_set, config, tools, seed=seed)
        self.optimizer = torch.optim.AdamW(self.soft.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.validation = [self._draw([case], "validation") for case in training_set.validation]

    def name_tensors(self) -> dict[str, torch.Tensor]:
        """Return the module's weights."""
        return self.soft.state_dict()

    def take_step(self, step: int) -> CurveRow:
        """Take one step on cases drawn at random."""
        cases, generator = self.training_set.train, make_generator(self.seed, STAGE, "cases", str(step))
        chosen = torch.randint(len(cases), (self.config.batch_cases,), generator=generator).tolist()
        loss = compute_losses(self._draw([cases[index] for index in chosen], str(step)), self.tools, self.soft).mean()
        return {"loss": descend(self.optimizer, loss, clip_norm=self.config.clip_norm)}

    def validate(self) -> CurveRow:
        """Measure the mean error over validation cases."""
        return {"validation_loss": fmean(measure(self.validation, self.tools, self.soft))}

    def _draw(self, cases: Sequence[PmgCase], name: str) -> Batch:
        return draw_batch(cases, self.training_set, self.config, self.tools, name=name, seed=self.seed)


def build_soft(training_set: TrainingSet, config: PmgConfig, tools: PmgTools, *, seed: int) -> SoftPreference:
    """Build the untrained module."""
    shape = read_shape(tools.language_model, num_prefix=config.num_prefix, num_soft=config.num_soft, token_dim=tools.diffusion.token_dim)
    mean_row_D, mean_norm = tools.language_model.measure_embedding()
    prompts = [write_image_prompt((), case.keywords, style_weight=1) for case in training_set.train]
    states_BKd, mask_BK = tools.diffusion.encode_prompts(prompts)
    generator = make_generator(seed, STAGE, "weights")
    soft = SoftPreference(shape, mean_row_D=mean_row_D, mean_norm=mean_norm, mean_state_d=states_BKd[mask_BK].mean(dim=0), generator=generator)
    return soft.to(tools.diffusion.device)


def fit_soft(
    training_set: TrainingSet, config: PmgConfig, tools: PmgTools, *, revisions: Sequence[str], seed: int, checkpoint_every: int
) -> tuple[SoftTraining, TrainingState]:
    """Take all steps, or go on after a kill; the same inputs give the same weights either way. `revisions` name the frozen models' weights."""
    training = SoftTraining(training_set, config, tools, seed=seed)
    plan = Plan(num_steps=config.num_steps, validate_every=config.validation_every)
    knobs = {name: value for name, value in asdict(config).items() if name not in WITHOUT_EFFECT}
    inputs = (knobs, training_set.list_facts(config), list(revisions), seed)
    with open_checkpoints(STAGE, code=[fit_soft], inputs=inputs) as checkpoints:
        return training, run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every, label=STAGE)


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
                image_prompts.append(write_image_prompt(target, case.keywords, style_weight=1, budget=tools.diffusion.text_budget))
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
