"""Teach the calibrator's attention to point at the words of E^g that say what a left-out item looks like: the last phase of stage 0.

Not in the paper, whose calibrator starts untrained: an untrained projection of E^txt points nowhere, and a few steps of policy
gradient cannot teach it to. E^g names what a user likes in all things; the caption of the left-out item says which of that
belongs here. The mean attention of E^d's rows is to cover the words of E^g that occur in the caption, each by its inverse document
frequency, log(captions / captions that hold it): a word of every caption tells nothing. The item's own name is left out: it stands
in E^g once, without a rival. The mapper stays as it is.

Legend: N leave-one-out cases, B of them in a batch, K tokens of an encoded prompt, d token width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipeline.checkpoints import open_checkpoints
from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
from pipeline.conditioning.config import MapperConfig
from pipeline.conditioning.fit import STAGE, choose_batch
from pipeline.conditioning.leave_one_out import LeaveOneOutCase
from pipeline.conditioning.states import compute_condition_inputs
from pipeline.keywords.prompts import flatten_text
from pipeline.training import CurveRow, Plan, TrainingState, descend_on_halves, fall_linearly, run_training

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LazyLanguageModel

WORK = "mapper_attention"
MAP_BATCH = 64  # leave-one-out cases that the mapper reads at once


def list_parts(prompt: str, tokenizer: Any, *, num_tokens: int) -> list[tuple[str, list[int]]]:
    """List the comma-separated parts of a prompt, each with the places of its tokens in the encoded prompt; what is cut off is left out."""
    token_ids = tokenizer(prompt, truncation=True, max_length=num_tokens)["input_ids"]
    found, start = [], 0
    for part in prompt.split(", "):
        part_ids = tokenizer(part, add_special_tokens=False)["input_ids"]
        places = (place for place in range(start, len(token_ids) - len(part_ids) + 1) if token_ids[place : place + len(part_ids)] == part_ids)
        place = next(places, None) if part_ids else None
        if place is not None:
            start = place + len(part_ids)
            found.append((part, list(range(place, start))))
    return found


def holds(caption: str, part: str) -> bool:
    """Say whether a caption holds a part of a prompt as whole words."""
    return f" {' '.join(part.lower().split())} " in f" {' '.join(caption.lower().split())} "


def build_targets(examples: Sequence[LeaveOneOutCase], tokenizer: Any, *, num_tokens: int) -> torch.Tensor:
    """Build the share of attention that each token of E^g is to get -> (N, K); a row of zeros if the caption holds no telling word of the prompt."""
    target_NK = torch.zeros(len(examples), num_tokens)
    frequency_of: dict[str, int] = {}
    for row, example in enumerate(examples):
        for part, places in list_parts(example.global_prompt, tokenizer, num_tokens=num_tokens):
            if part.lower() != flatten_text(example.reference_text).lower() and holds(example.caption, part):
                if part not in frequency_of:
                    frequency_of[part] = sum(holds(other.caption, part) for other in examples)
                target_NK[row, places] = math.log(len(examples) / frequency_of[part]) / len(places)
    return target_NK / target_NK.sum(dim=1, keepdim=True).clamp(min=1e-6)


def compute_mean_attention(conditioner: Conditioner, inputs: ConditionInputs, mapped_BKD: torch.Tensor) -> torch.Tensor:
    """Average the attention over E^d's rows that stand for something -> (B, K)."""
    calibrator, device = conditioner.calibrator, conditioner.img_vectors_LD.device
    global_BKD, mask_BK, text_mask_BT = inputs.global_BKD.to(device), inputs.global_mask_BK.to(device), inputs.text_mask_BT.to(device)
    attention_BQK = calibrator.compute_attention(calibrator.join_detailed(inputs.text_BTD.to(device), mapped_BKD), global_BKD, mask_BK)
    real_BQ1 = torch.cat([text_mask_BT, torch.ones_like(mask_BK)], dim=1)[..., None]
    return (attention_BQK * real_BQ1).sum(dim=1) / real_BQ1.sum(dim=1)


def compute_attention_loss(mean_BK: torch.Tensor, target_BK: torch.Tensor) -> torch.Tensor:
    """Compute the cross-entropy of the target shares against the attention -> ()."""
    if mean_BK.shape != target_BK.shape:
        raise ValueError(f"attention {tuple(mean_BK.shape)} and target {tuple(target_BK.shape)} differ in shape.")
    return -(target_BK * torch.log(mean_BK + 1e-6)).sum(dim=1).mean()


class AttentionTraining:
    """The calibrator of a conditioner, whose mapper and [IMG] vectors stay as they are."""

    def __init__(
        self, conditioner: Conditioner, inputs: ConditionInputs, target_NK: torch.Tensor, config: MapperConfig, *, num_train: int, seed: int
    ) -> None:
        device = conditioner.img_vectors_LD.device
        self.conditioner, self.inputs, self.target_NK = conditioner, inputs, target_NK.to(device)
        self.config, self.num_train, self.seed = config, num_train, seed
        with torch.no_grad():
            parts = [conditioner.mapper(img_BLD.to(device), conditioner.img_vectors_LD) for img_BLD in inputs.img_BLD.split(MAP_BATCH)]
        self.mapped_NKD = torch.cat(parts)
        self.optimizer = torch.optim.AdamW(conditioner.calibrator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)

    def name_tensors(self) -> dict[str, torch.Tensor]:
        """Return the calibrator's weights."""
        return self.conditioner.calibrator.state_dict()

    def take_step(self, step: int) -> CurveRow:
        """Take one step; its batches go on where those of the mapper end."""
        batch = choose_batch(self.num_train, self.config.batch_size, seed=self.seed, step=self.config.num_steps + step)
        return {"loss": descend_on_halves(self.optimizer, batch, lambda rows: compute_attention_loss(self._attend(rows), self.target_NK[rows]))}

    @torch.no_grad()
    def validate(self) -> CurveRow:
        """Measure the attention that held-out cases put on the right words."""
        held_out = list(range(self.num_train, len(self.target_NK)))
        return {"attention_mass": (self._attend(held_out) * (self.target_NK[held_out] > 0)).sum(dim=1).mean().item()}

    def _attend(self, rows: Sequence[int]) -> torch.Tensor:
        return compute_mean_attention(self.conditioner, self.inputs.select(rows), self.mapped_NKD[rows])


def pretrain_attention(
    conditioner: Conditioner,
    examples: Sequence[LeaveOneOutCase],
    config: MapperConfig,
    *,
    llm: LazyLanguageModel,
    diffusion: Diffusion,
    seed: int,
    checkpoint_every: int,
) -> TrainingState:
    """Train the calibrator in place on all but the last `held_out_captions` cases; the curves end with what those measure."""
    rows = [{"detailed_prompt": example.detailed_prompt, "global_prompt": example.global_prompt} for example in examples]
    inputs = compute_condition_inputs(rows, llm=llm, diffusion=diffusion, conditioner=conditioner, batch_size=config.states_batch_size)
    target_NK = build_targets(examples, diffusion.pipeline.tokenizer, num_tokens=diffusion.num_tokens)
    training = AttentionTraining(conditioner, inputs, target_NK, config, num_train=len(rows) - config.held_out_captions, seed=seed)
    num_steps = config.attention_steps
    plan = Plan(num_steps=num_steps, validate_every=num_steps, rate=fall_linearly(num_steps))
    key = (config, training.num_train, seed, inputs, target_NK, conditioner.list_facts())
    with open_checkpoints(WORK, code=[pretrain_attention], inputs=key) as checkpoints:
        return run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every, label=f"{STAGE}, attention")
