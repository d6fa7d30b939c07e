"""Train a look map against the frozen diffusion model: a left-out picture of a history is to be drawn from its text and the others' look.

It is what Textual Inversion (Gal et al. 2023) learns for a user, learned once for all users. Choices:
1. Words are the left-out item's own text, and the other items weigh as they will: by similarity to it.
2. In a share of the lessons the look gives way to tokens that say nothing, which are learned with the map: guidance leads away from them.
3. What a text predicts of a visual vector is solved for once, by ridge regression over the catalogue, and stays.

Shapes: B lessons, N history items, V visual width, C text width, M look tokens, K tokens of an encoded text, d token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.checkpoints import open_checkpoints
from pipeline.looks.config import STAGE, LookTrainingConfig
from pipeline.models.denoising import Denoiser, draw_noise
from pipeline.models.look import LookMap
from pipeline.randomness import make_generator
from pipeline.training import CurveRow, Plan, TrainingState, descend, run_training

VALIDATION_BATCH = 8


@dataclass(frozen=True)
class LookLesson:
    """A picture to draw, and what is known of it."""

    name: str
    latent_Chw: Tensor
    text: str
    place_N: Tensor  # of the other items of the history, in the vectors
    weight_N: Tensor  # of them, sum 1


@dataclass(frozen=True)
class ItemVectors:
    """Unit vectors of all items."""

    visual_NV: Tensor
    text_NC: Tensor


class LookTraining:
    """A look map and the lessons that it learns from."""

    def __init__(
        self,
        look: LookMap,
        vectors: ItemVectors,
        train: Sequence[LookLesson],
        validation: Sequence[LookLesson],
        config: LookTrainingConfig,
        denoiser: Denoiser,
        *,
        seed: int,
    ) -> None:
        self.look, self.vectors, self.train, self.validation = look, vectors, train, validation
        self.config, self.denoiser, self.seed = config, denoiser, seed
        look.predicted.requires_grad_(False)
        trained = [parameter for parameter in look.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)

    def name_tensors(self) -> dict[str, Tensor]:
        """Return the map's weights."""
        return self.look.state_dict()

    def take_step(self, step: int) -> CurveRow:
        """Take one step on lessons drawn at random."""
        generator = make_generator(self.seed, STAGE, "lessons", str(step))
        chosen = torch.randint(len(self.train), (self.config.batch_size,), generator=generator).tolist()
        dropped_B = torch.rand(len(chosen), generator=generator) < self.config.no_look_share
        loss = self.compute_losses([self.train[index] for index in chosen], dropped_B, name=str(step)).mean()
        return {"loss": descend(self.optimizer, loss, clip_norm=self.config.clip_norm)}

    @torch.no_grad()
    def validate(self) -> CurveRow:
        """Measure the mean error over validation lessons, with their look and without, always with the same timesteps and noises."""
        batches = [self.validation[start : start + VALIDATION_BATCH] for start in range(0, len(self.validation), VALIDATION_BATCH)]
        sums = [
            sum(self.compute_losses(batch, torch.full((len(batch),), dropped), name="validation").sum().item() for batch in batches)
            for dropped in (False, True)
        ]
        return dict(zip(("validation_loss", "validation_loss_no_look"), (total / len(self.validation) for total in sums), strict=True))

    def compute_losses(self, lessons: Sequence[LookLesson], dropped_B: Tensor, *, name: str) -> Tensor:
        """Compute each lesson's denoising error (B,) under its text and the others' look, or under no look."""
        diffusion = self.denoiser.diffusion
        drawn = [
            draw_noise(
                lesson.latent_Chw.shape,
                self.denoiser.num_timesteps,
                generator=make_generator(self.seed, STAGE, "noise", name, str(place), lesson.name),
            )
            for place, lesson in enumerate(lessons)
        ]
        states_BKd, _ = diffusion.encode_prompts([diffusion.text_budget.fit(lesson.text).text for lesson in lessons])
        tokens_BMd = torch.where(dropped_B[:, None, None], self.look.no_look_MD, self.write_tokens(lessons))
        return self.denoiser.compute_loss(
            torch.stack([lesson.latent_Chw for lesson in lessons]),
            torch.cat([states_BKd, tokens_BMd], dim=1),
            torch.tensor([timestep for timestep, _ in drawn]),
            torch.stack([noise for _, noise in drawn]),
        )

    def write_tokens(self, lessons: Sequence[LookLesson]) -> Tensor:
        """Write the look tokens (B, M, d) of the lessons' other items."""
        place_BN = pad_sequence([lesson.place_N for lesson in lessons], batch_first=True)  # filled up with items of no weight
        weight_BN = pad_sequence([lesson.weight_N for lesson in lessons], batch_first=True)
        look_BNF = self.look.map_items(self.vectors.visual_NV[place_BN], self.vectors.text_NC[place_BN])
        return self.look.write_tokens(look_BNF, weight_BN)


def fit_look(training: LookTraining, *, revision: str, checkpoint_every: int) -> TrainingState:
    """Train the map, or go on after a kill; the same inputs give the same weights either way. `revision` names the diffusion model."""
    plan = Plan(num_steps=training.config.num_steps, validate_every=training.config.validation_every)
    inputs = (training.config, revision, training.seed, training.vectors, list(training.train), list(training.validation), training.look.state_dict())
    with open_checkpoints(STAGE, code=[fit_look], inputs=inputs) as checkpoints:
        return run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every, label=STAGE)
