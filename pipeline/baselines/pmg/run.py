"""From tables to what generation needs of every case: preference and target keywords, and the trained soft embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.baselines.pmg.config import PmgConfig
from pipeline.baselines.pmg.fit import (
    STAGE,
    PmgCase,
    PmgState,
    PmgTools,
    TrainingSet,
    build_state,
    draw_batch,
    measure,
    train_soft,
    write_soft_prompt,
)
from pipeline.baselines.pmg.keywords import ItemWords
from pipeline.fingerprint import compute_fingerprint
from pipeline.ledger import open_ledger
from pipeline.metrics.intervals import compute_paired_interval
from pipeline.models.denoising import Denoiser
from pipeline.randomness import make_generator
from pipeline.rows import Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion
    from pipeline.models.llm import LazyLanguageModel
    from pipeline.models.soft_prompt import SoftPreference

LEDGER = "pmg_soft"
COLUMNS = pa.schema([pa.field("soft", pa.binary())])
WITHOUT_EFFECT = ("selection", "max_rejected_fraction", "batch_size", "max_new_tokens")  # on the training, given its keywords


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


def fit_soft(
    training_set: TrainingSet,
    config: PmgConfig,
    *,
    llm: LazyLanguageModel,
    diffusion: Diffusion,
    revision: str,
    seed: int,
    checkpoint_every: int,
) -> tuple[PmgState, PmgTools, dict[str, Any]]:
    """Train the soft embeddings, or read the finished training back; also return the metrics."""
    tools, words = PmgTools(llm.load(), diffusion, Denoiser(diffusion)), training_set.words
    targets = {item_id: words.list_target(item_id, num_keywords=config.num_target_keywords) for item_id in training_set.latents}
    digests = {item_id: latent.numpy().tobytes() for item_id, latent in sorted(training_set.latents.items())}
    knobs = {name: value for name, value in asdict(config).items() if name not in WITHOUT_EFFECT}
    cases = (training_set.train, training_set.validation, words.captions)
    fingerprint = compute_fingerprint(STAGE, knobs, cases, targets, digests, revision, llm.revision, str(llm.dtype), seed)
    state = build_state(training_set, config, tools, seed=seed)
    train_soft(state, training_set, config, tools, fingerprint=fingerprint, seed=seed, checkpoint_every=checkpoint_every)
    validation = [draw_batch([case], training_set, config, tools, name="validation", seed=seed) for case in training_set.validation]
    plain, trained = (dict(enumerate(measure(validation, tools, soft))) for soft in (None, state.soft))
    fall = compute_paired_interval(plain, trained, seed=seed)
    metrics = {
        "num_steps": state.step,
        "train_cases": len(training_set.train),
        "validation_cases": len(training_set.validation),
        "validation_loss_keywords": fmean(plain.values()),
        "validation_loss_before": next(row["validation_loss"] for row in state.curves if "validation_loss" in row),
        "validation_loss": fmean(trained.values()),
        "validation_fall": fall.value,
        "validation_fall_low": fall.low,
        "validation_fall_high": fall.high,
    }
    return state, tools, metrics


def compute_soft(
    histories: dict[str, Sequence[str]], words: ItemWords, config: PmgConfig, soft: SoftPreference, tools: PmgTools, *, identity: str
) -> dict[str, np.ndarray]:
    """Compute (or read back) the soft embeddings of every case from its whole history -> case_id -> (M·d,) float32."""
    prompts = {case_id: write_soft_prompt(history, words, config, tools.language_model) for case_id, history in histories.items()}

    def compute(batch: list[Row]) -> list[dict[str, Any]]:
        with torch.no_grad():
            soft_BMd = soft([row.payload for row in batch], tools.language_model)
        return [{"soft": soft_Md.cpu().numpy().tobytes()} for soft_Md in soft_BMd]

    weights = {name: value.detach().cpu().numpy().tobytes() for name, value in soft.state_dict().items()}
    rows = [Row(case_id, prompt, prompt) for case_id, prompt in prompts.items()]
    with open_ledger(LEDGER, COLUMNS, code=[soft], inputs=(weights, config.batch_size, identity)) as ledger:
        result = map_rows(ledger, rows, compute, batch_size=config.batch_size, label=LEDGER).load()
    return {str(case_id): np.frombuffer(value["soft"], dtype=np.float32) for case_id, value in result.values.items()}


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
