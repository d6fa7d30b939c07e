"""From tables to the trained mapper's file: choose what it learns to say, train it, then teach the calibrator's attention."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from pipeline.conditioning.attention_pretraining import pretrain_attention
from pipeline.conditioning.calibrator import BalanceCalibrator
from pipeline.conditioning.conditioner import Conditioner
from pipeline.conditioning.config import CalibratorConfig, MapperConfig
from pipeline.conditioning.fit import CaptionSet, MapperTraining, build_captions, choose_captions, fit_mapper, write_prompts
from pipeline.conditioning.leave_one_out import LeaveOneOutCase, build_leave_one_out_cases
from pipeline.fingerprint import compute_fingerprint
from pipeline.keywords.preference import PreferenceConfig
from pipeline.models.text_budget import UNBOUNDED, TextBudget
from pipeline.randomness import make_generator
from pipeline.retrieval.config import RetrievalConfig
from pipeline.training import CurveRow, TrainingState

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LazyLanguageModel


@dataclass(frozen=True)
class Lessons:
    """What the mapper learns to say: prompts with their captions, and the leave-one-out cases that they are of, if they are."""

    prompted: list[tuple[str, str]]
    examples: list[LeaveOneOutCase]


@dataclass(frozen=True)
class MapperResult:
    """What the stage writes."""

    training: MapperTraining
    calibrator: dict[str, torch.Tensor] | None
    facts: dict[str, Any]
    metrics: dict[str, Any]
    curves: list[CurveRow]
    seconds: float


def choose_lessons(
    tables: dict[str, pa.Table],
    config: MapperConfig,
    *,
    retrieval: RetrievalConfig,
    preference: PreferenceConfig,
    seed: int,
    budget: TextBudget = UNBOUNDED,
) -> Lessons:
    """Choose leave-one-out cases of training users, or captions of items that somebody has interacted with, as the params ask for."""
    if config.prompt == "leave_one_out":
        retrieval = replace(retrieval, k=config.leave_one_out_k, strategy="ret")
        examples = build_leave_one_out_cases(tables, retrieval=retrieval, preference=preference, count=config.max_captions, seed=seed, budget=budget)
        return Lessons([(example.detailed_prompt, example.caption) for example in examples], examples)
    caption_of = {row["item_id"]: row["caption"] for row in tables["captions"].to_pylist()}
    seen = {item_id for history in tables["cases"]["history"].to_pylist() for item_id in history}
    return Lessons(write_prompts(choose_captions(caption_of, sorted(seen), config, seed=seed), config), [])


def run_mapper(
    lessons: Lessons,
    config: MapperConfig,
    calibrator: CalibratorConfig,
    *,
    llm: LazyLanguageModel,
    diffusion: Diffusion,
    diffusion_revision: str,
    seed: int,
    checkpoint_every: int,
) -> MapperResult:
    """Train the mapper and, on leave-one-out cases, the calibrator's attention."""
    if len(lessons.prompted) < 2:
        raise ValueError(
            f"the mapper needs at least 2 different captions of items that training users have looked at, but there is {len(lessons.prompted)}: "
            "the captioner says the same of all of them, or captioned none. Look at data/captioning/captions.parquet."
        )
    # a small catalogue has fewer captions than the params ask for: half of them are trained on all the same
    config = replace(config, held_out_captions=min(config.held_out_captions, max(1, len(lessons.prompted) // 2)))
    captions = build_captions(lessons.prompted, diffusion, config)
    shared: dict[str, Any] = {"llm": llm, "seed": seed, "checkpoint_every": checkpoint_every}
    training, state = fit_mapper(captions, config, device=diffusion.device, **shared)
    metrics, seconds, weights = {**summarise_fit(state, captions), "seed": seed}, state.seconds, None
    if lessons.examples and config.attention_steps:
        conditioner = build_untrained(training, calibrator, config, seed=seed).to(diffusion.device)
        attention = pretrain_attention(conditioner, lessons.examples, config, diffusion=diffusion, **shared)
        metrics |= {"attention_mass_before": attention.curves[0]["attention_mass"], "attention_mass": attention.curves[-1]["attention_mass"]}
        seconds, weights = seconds + attention.seconds, conditioner.calibrator.state_dict()
    facts = {"language_model": llm.revision, "diffusion": diffusion_revision, "params": compute_fingerprint(config), "seed": seed}
    return MapperResult(training, weights, {**facts, "prompt_format": asdict(config.prompt_format)}, metrics, state.curves, seconds)


def build_untrained(training: MapperTraining, calibrator: CalibratorConfig, config: MapperConfig, *, seed: int) -> Conditioner:
    """Join the trained mapper and an untrained calibrator."""
    shape = training.mapper.shape
    generator = make_generator(seed, "calibrator")
    untrained = BalanceCalibrator(calibrator, llm_dim=shape.input_dim, token_dim=shape.token_dim, generator=generator)
    return Conditioner(training.mapper, untrained, training.img_vectors_LD, config.prompt_format)


def summarise_fit(state: TrainingState, captions: CaptionSet) -> dict[str, Any]:
    """Return the metrics of a training of the mapper."""
    curves = state.curves
    last = next((row for row in reversed(curves) if "held_out_loss" in row), {})
    return {
        "num_steps": state.step,
        "num_captions": captions.num_train,
        "num_held_out": captions.num_held_out,
        "loss_first": curves[0]["loss"] if curves else None,
        "loss_last": curves[-1]["loss"] if curves else None,
        "held_out_loss": last.get("held_out_loss"),
        "held_out_match": last.get("held_out_match"),
        "held_out_target_norm": captions.target_NKD[captions.num_train :].norm(dim=-1).mean().item(),
    }
