"""Stage 0: teach [IMG] vectors and mapper to say in the diffusion model's text space what a caption says (GILL's generation loss).

The paper does not say how its mapper came to fit its language model; an untrained one produces noise that a rate of 1e-5 cannot mend.
Departures from GILL (Koh et al. 2023, CC3M, 20,000 steps of 200):
1. Only the generation loss is used: captioning and retrieval heads are no part of RAGAR, and [IMG] is never decoded.
2. Two phases: `img_steps` steps train vectors and mapper together through the frozen language model, then the vectors are fixed, the
   states are computed once, and `mapper_steps` cheap steps train the mapper alone.
3. The learning rate warms up and then falls along a cosine to zero over both phases, instead of a step every five epochs.
4. `attention_steps` more steps teach the calibrator's attention where to point, on leave-one-out cases only (`attention_pretraining.py`).
5. `prompt: leave_one_out` takes leave-one-out cases of training users, whose p_g has the form of the real ones (`leave_one_out.py`); `detailed` puts
   the caption itself into p_g; `caption` is GILL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.checkpoints import open_checkpoints
from pipeline.conditioning.config import MapperConfig
from pipeline.conditioning.img_tokens import init_img_vectors, rescale_rows
from pipeline.conditioning.mapper import MapperShape, ModalMapper, compute_gill_loss
from pipeline.conditioning.states import compute_prompt_states, run_prompts
from pipeline.keywords.prompts import build_detailed_prompt, flatten_text
from pipeline.randomness import make_generator
from pipeline.training import CurveRow, Plan, TrainingState, descend, descend_on_halves, run_training, warm_up_and_fall

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LazyLanguageModel

STAGE = "mapper"
CURVE_COLUMNS = ("step", "phase", "learning_rate", "loss", "held_out_loss", "held_out_match")


@dataclass(frozen=True)
class CaptionSet:
    """Captions as prompts and as token states (N, K, d) of the diffusion model; the last `num_held_out` are never trained on."""

    prompts: list[str]
    target_NKD: torch.Tensor
    num_held_out: int

    @property
    def num_train(self) -> int:
        """Number of captions to train on."""
        return len(self.prompts) - self.num_held_out


def choose_captions(caption_of: dict[str, str], item_ids: Sequence[str], config: MapperConfig, *, seed: int) -> list[str]:
    """Choose at most `max_captions` distinct captions of the items, in a seeded order."""
    captions = sorted({" ".join(caption_of[item_id].split()) for item_id in item_ids if item_id in caption_of})
    order = torch.randperm(len(captions), generator=make_generator(seed, STAGE, "captions")).tolist()
    return [captions[i] for i in order[: config.max_captions]]


def write_prompts(captions: Sequence[str], config: MapperConfig) -> list[tuple[str, str]]:
    """Write a prompt for each caption: (prompt, caption)."""
    if config.prompt == "caption":
        return [(flatten_text(caption), caption) for caption in captions]
    return [(build_detailed_prompt([flatten_text(caption)], reference_text=None, reference_caption=None), caption) for caption in captions]


def build_captions(prompted: Sequence[tuple[str, str]], diffusion: Diffusion, config: MapperConfig) -> CaptionSet:
    """Build the targets of (prompt, caption) pairs; ValueError if there are too few to hold some out."""
    if len(prompted) <= config.held_out_captions:
        raise ValueError(
            f"the mapper needs at least {config.held_out_captions + 1} different captions of items that users have looked at, "
            f"{config.held_out_captions} of them to hold out, but the stage captioning wrote {len(prompted)}."
        )
    prompts, captions = ([pair[i] for pair in prompted] for i in range(2))
    return CaptionSet(prompts, diffusion.encode_prompts(captions)[0], config.held_out_captions)


class MapperTraining:
    """[IMG] vectors and mapper: first together through the language model, then the mapper alone, on states that are computed once."""

    def __init__(self, captions: CaptionSet, config: MapperConfig, *, llm: LazyLanguageModel, device: torch.device, seed: int) -> None:
        self.captions, self.config, self.llm, self.device, self.seed = captions, config, llm, device, seed
        mean_row_D, mean_norm = llm.model.measure_embedding()
        generator = make_generator(seed, STAGE, "weights")
        vectors_LD = init_img_vectors(config.num_img_tokens, mean_row_D, mean_norm, generator=generator)
        shape = MapperShape(
            d_model=config.d_model,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            ffn_dim=config.ffn_dim,
            input_dim=len(mean_row_D),
            num_img_tokens=config.num_img_tokens,
            num_tokens=captions.target_NKD.shape[1],
            token_dim=captions.target_NKD.shape[2],
        )
        self.mapper = ModalMapper(shape, generator=generator).to(device)
        self.img_vectors_LD = torch.nn.Parameter(vectors_LD.to(device))
        decayed = {"params": list(self.mapper.parameters()), "weight_decay": config.weight_decay}
        self.optimizer = torch.optim.AdamW(
            [decayed, {"params": [self.img_vectors_LD], "weight_decay": 0.0}], lr=config.learning_rate, betas=(0.9, 0.95), fused=True
        )
        self._states_NLD: torch.Tensor | None = None  # of all captions, once the vectors are fixed

    def name_tensors(self) -> dict[str, torch.Tensor]:
        """Return mapper and [IMG] vectors."""
        return {**{f"mapper.{name}": value for name, value in self.mapper.state_dict().items()}, "img_vectors": self.img_vectors_LD}

    def take_step(self, step: int) -> CurveRow:
        """Take a step of the first or of the second phase."""
        rate, config = self.optimizer.param_groups[0]["lr"], self.config
        if step < config.img_steps:
            batch = choose_batch(self.captions.num_train, config.img_batch_size, seed=self.seed, step=step)
            loss = self._train_vectors(batch)
        else:
            batch = choose_batch(self.captions.num_train, config.batch_size, seed=self.seed, step=step)
            self._fix_states()
            loss = descend_on_halves(self.optimizer, batch, self._measure_mapper, clip_norm=config.clip_norm)
        return {"phase": "img" if step < config.img_steps else "mapper", "learning_rate": rate, "loss": loss}

    def _train_vectors(self, batch: list[int]) -> float:
        """Step through the frozen language model, and put the [IMG] vectors back to their norm."""
        norm = self.img_vectors_LD.detach().norm(dim=1).mean().item()
        prompts = [self.captions.prompts[i] for i in batch]
        states = run_prompts(prompts, self.llm.model, self.img_vectors_LD, self.config.prompt_format)
        loss = self._measure(states.img_BLD, self.img_vectors_LD, batch)
        number = descend(self.optimizer, loss, clip_norm=self.config.clip_norm)
        with torch.no_grad():
            self.img_vectors_LD.copy_(rescale_rows(self.img_vectors_LD, norm))
        return number

    def _measure_mapper(self, batch: Sequence[int]) -> torch.Tensor:
        return self._measure(self._fix_states()[batch].to(self.device), self.img_vectors_LD.detach(), batch)

    def _measure(self, img_BLD: torch.Tensor, vectors_LD: torch.Tensor, batch: Sequence[int]) -> torch.Tensor:
        return compute_gill_loss(self.mapper(img_BLD, vectors_LD), self.captions.target_NKD[batch].to(self.device))

    def _fix_states(self) -> torch.Tensor:
        """Return the [IMG] states of all captions (N, L, D) with the vectors as they are from now on."""
        if self._states_NLD is None:
            config = self.config
            self._states_NLD = compute_prompt_states(
                self.captions.prompts,
                llm=self.llm,
                img_vectors_LD=self.img_vectors_LD.detach().cpu(),
                prompt_format=config.prompt_format,
                batch_size=config.states_batch_size,
            ).img_BLD
        return self._states_NLD

    @torch.no_grad()
    def validate(self) -> CurveRow:
        """Measure held-out captions, in the second phase: the loss, and the share whose output is closer to their own target than to any other's."""
        if self._states_NLD is None:
            return {}
        img_BLD, target_BKD = (rows[self.captions.num_train :].to(self.device) for rows in (self._states_NLD, self.captions.target_NKD))
        mapped_BKD = self.mapper(img_BLD, self.img_vectors_LD)
        distance_BB = torch.stack([(mapped_KD - target_BKD).norm(dim=-1).mean(dim=-1) for mapped_KD in mapped_BKD])
        own = torch.arange(len(distance_BB), device=distance_BB.device)
        match = (distance_BB.argmin(dim=1) == own).float().mean().item()
        return {"held_out_loss": compute_gill_loss(mapped_BKD, target_BKD).item(), "held_out_match": match}


def fit_mapper(
    captions: CaptionSet,
    config: MapperConfig,
    *,
    llm: LazyLanguageModel,
    device: torch.device,
    seed: int,
    checkpoint_every: int,
) -> tuple[MapperTraining, TrainingState]:
    """Run both phases, or go on after a kill; the same inputs give the same weights either way."""
    training = MapperTraining(captions, config, llm=llm, device=device, seed=seed)
    plan = Plan(
        num_steps=config.num_steps,
        validate_every=config.held_out_every,
        validate_start=False,
        rate=warm_up_and_fall(config.num_steps, config.warmup_steps),
    )
    with open_checkpoints(STAGE, code=[fit_mapper], inputs=(config, captions, llm.revision, str(llm.dtype), seed)) as checkpoints:
        return training, run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every, label=STAGE)


def choose_batch(num_captions: int, batch_size: int, *, seed: int, step: int) -> list[int]:
    """Choose the captions of a step; they follow from (seed, step) alone."""
    return torch.randint(num_captions, (batch_size,), generator=make_generator(seed, STAGE, "batch", str(step))).tolist()
