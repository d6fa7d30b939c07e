"""From tables to what generation needs of every case: preference and target keywords, and the trained soft embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.baselines.pmg.config import STAGE, PmgConfig
from pipeline.baselines.pmg.fit import PmgCase, PmgTools, SoftTraining, TrainingSet, fit_soft, measure, write_soft_prompt
from pipeline.baselines.pmg.keywords import ItemWords, name_preferences
from pipeline.latents import compute_latents
from pipeline.ledger import open_ledger
from pipeline.metrics.intervals import compute_paired_interval
from pipeline.models.denoising import Denoiser
from pipeline.models.lazy import LazyModel
from pipeline.randomness import make_generator
from pipeline.rows import Row, map_rows
from pipeline.training import CurveRow, TrainingState

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LazyLanguageModel
    from pipeline.models.soft_prompt import SoftPreference

LEDGER = "pmg_soft"
NO_SOFT = np.zeros(1, dtype=np.float32)
COLUMNS = pa.schema([pa.field("soft", pa.binary())])


@dataclass(frozen=True)
class Splits:
    """The cases that PMG trains on, validates on and prepares for generation: rows of the cases table."""

    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    drawn: list[dict[str, Any]]

    def list_histories(self) -> dict[str, list[str]]:
        """Return case_id -> history of all cases."""
        return {case["case_id"]: case["history"] for case in (*self.train, *self.validation, *self.drawn)}


def split_cases(cases: pa.Table, splits: Sequence[str], config: PmgConfig, *, seed: int) -> Splits:
    """Choose `train_cases` and `validation_cases` by the seed, and all cases of `splits`; ValueError if a part is empty."""
    rows = cases.to_pylist()
    parts = {name: [row for row in rows if row["split"] == name] for name in ("train", "val")}
    chosen = {}
    for name, count in (("train", config.train_cases), ("val", config.validation_cases)):
        order = torch.randperm(len(parts[name]), generator=make_generator(seed, STAGE, "cases", name)).tolist()
        chosen[name] = [parts[name][index] for index in sorted(order[:count])]
    found = Splits(chosen["train"], chosen["val"], [row for row in rows if row["split"] in splits])
    for name, part in (("train", found.train), ("val", found.validation), (", ".join(splits), found.drawn)):
        if not part:
            raise ValueError(f"no case is of the splits {name}, which pmg needs.")
    return found


def build_training_set(splits: Splits, named: dict[str, list[str]], words: ItemWords, latents: dict[str, torch.Tensor]) -> TrainingSet:
    """Join cases with their keywords; a case without keywords or without an image is left out. ValueError if none is left."""

    def join(rows: list[dict[str, Any]]) -> list[PmgCase]:
        known = [row for row in rows if row["case_id"] in named and any(item_id in latents for item_id in row["history"])]
        if not known:
            raise ValueError("no training or no validation case has keywords and a readable image, so pmg cannot be trained.")
        return [PmgCase(row["case_id"], tuple(row["history"]), tuple(named[row["case_id"]])) for row in known]

    return TrainingSet(join(splits.train), join(splits.validation), words, latents)


def run_soft(
    training_set: TrainingSet,
    config: PmgConfig,
    *,
    llm: LazyLanguageModel,
    diffusion: LazyModel[Diffusion],
    seed: int,
    checkpoint_every: int,
) -> tuple[SoftTraining, TrainingState, dict[str, Any]]:
    """Train the soft embeddings, or read the finished training back; also return the metrics."""
    tools = PmgTools(llm.model, diffusion.model, Denoiser(diffusion.model))
    revisions = (diffusion.revision, llm.revision, str(llm.dtype))
    training, state = fit_soft(training_set, config, tools, revisions=revisions, seed=seed, checkpoint_every=checkpoint_every)
    plain, trained = (dict(enumerate(measure(training.validation, tools, soft))) for soft in (None, training.soft))
    fall = compute_paired_interval(plain, trained, seed=seed)
    metrics = {
        "num_steps": state.step,
        "train_cases": len(training_set.train),
        "validation_cases": len(training_set.validation),
        "validation_loss_keywords": fmean(plain.values()),
        "validation_loss_before": state.curves[0]["validation_loss"],
        "validation_loss": fmean(trained.values()),
        "validation_fall": fall.value,
        "validation_fall_low": fall.low,
        "validation_fall_high": fall.high,
    }
    return training, state, metrics


def compute_soft(
    histories: dict[str, Sequence[str]], words: ItemWords, config: PmgConfig, soft: SoftPreference, tools: PmgTools, *, identity: str
) -> dict[str, np.ndarray]:
    """Compute (or read back) the soft embeddings of every case from all items of its history -> case_id -> (M·d,) float32."""
    language_model = tools.language_model
    prompts = {case_id: write_soft_prompt(history, words, config, language_model) for case_id, history in histories.items()}

    def compute(batch: list[Row]) -> list[dict[str, Any]]:
        with torch.no_grad():
            soft_BMd = soft([row.payload for row in batch], language_model)
        return [{"soft": soft_Md.cpu().numpy().tobytes()} for soft_Md in soft_BMd]

    weights = {name: value.detach().cpu().numpy().tobytes() for name, value in soft.state_dict().items()}
    rows = [Row(case_id, prompt, prompt) for case_id, prompt in prompts.items()]
    with open_ledger(LEDGER, COLUMNS, code=[compute, soft], inputs=(weights, config.batch_size, identity)) as ledger:
        result = map_rows(ledger, rows, compute, batch_size=config.batch_size, label=LEDGER).load()
    return {str(case_id): np.frombuffer(value["soft"], dtype=np.float32) for case_id, value in result.values.items()}


@dataclass(frozen=True)
class PmgResult:
    """What the stage writes."""

    rows: list[dict[str, Any]]
    rejected: dict[str, str]  # drawn cases without keywords, and why
    num_drawn: int
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    curves: list[CurveRow] = field(default_factory=list)
    seconds: float = 0.0


def run_pmg(
    cases: pa.Table,
    items: Path,
    words: ItemWords,
    config: PmgConfig,
    *,
    drawn_splits: Sequence[str],
    llm: LazyLanguageModel,
    diffusion: LazyModel[Diffusion],
    seed: int,
    checkpoint_every: int,
) -> PmgResult:
    """Name every case's keywords and, if the params ask for it, train the soft embeddings and compute those of the drawn cases."""
    splits = split_cases(cases, drawn_splits, config, seed=seed)
    named, rejected = name_preferences(splits.list_histories(), words, config, llm=llm)
    found = {"rejected": {case["case_id"]: rejected[case["case_id"]] for case in splits.drawn if case["case_id"] in rejected}}
    if not config.use_soft:
        return PmgResult(build_rows(splits, named, words, config, lambda case_id: NO_SOFT), num_drawn=len(splits.drawn), **found)
    seen = [item_id for case in (*splits.train, *splits.validation) for item_id in case["history"]]
    latents, _ = compute_latents(items, seen, diffusion)
    training_set = build_training_set(splits, named, words, latents)
    training, state, metrics = run_soft(training_set, config, llm=llm, diffusion=diffusion, seed=seed, checkpoint_every=checkpoint_every)
    drawn = {case["case_id"]: case["history"] for case in splits.drawn if case["case_id"] in named}
    soft_of = compute_soft(drawn, words, config, training.soft, training.tools, identity=f"{llm.revision} {llm.dtype}")
    return PmgResult(
        build_rows(splits, named, words, config, soft_of.__getitem__),
        num_drawn=len(splits.drawn),
        tensors=training.name_tensors(),
        metrics=metrics,
        curves=state.curves,
        seconds=state.seconds,
        **found,
    )


def build_rows(
    splits: Splits, named: dict[str, list[str]], words: ItemWords, config: PmgConfig, soft: Callable[[str], np.ndarray]
) -> list[dict[str, Any]]:
    """Return a row for every drawn case that has keywords."""
    return [
        {
            "case_id": case["case_id"],
            "preference_keywords": named[case["case_id"]],
            "target_keywords": words.list_target(case["reference_id"], num_keywords=config.num_target_keywords),
            "soft": soft(case["case_id"]),
        }
        for case in splits.drawn
        if case["case_id"] in named
    ]
