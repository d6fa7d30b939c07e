"""From tables to every user's vectors: a row of the ledger is a user, a batch of rows is trained together and resumes from its checkpoint.

Given the retrieved items alone, vectors are learned for every case in place of every user; what is said here of a user is then true of a case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch

from pipeline import cost
from pipeline.baselines.ti.config import STAGE, TextualInversionConfig
from pipeline.baselines.ti.fit import Picture, UserPictures, fit_users, list_measured_steps, split_pictures
from pipeline.cost import measure_rows
from pipeline.latents import compute_latents
from pipeline.ledger import open_ledger
from pipeline.metrics.intervals import compute_mean_interval
from pipeline.models.denoising import Denoiser
from pipeline.models.lazy import LazyModel
from pipeline.models.pseudo_words import PseudoWordEncoder
from pipeline.rows import MapResult, Rejection, Row, map_rows

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion

COLUMNS = pa.schema([pa.field("vectors", pa.binary()), pa.field("losses", pa.list_(pa.float64())), *cost.COLUMNS])
Owner = Literal["user_id", "case_id"]  # whose vectors are learned
NO_IMAGE = "None of the user's history images can be read."
NO_RETRIEVED_IMAGE = "None of the case's retrieved images can be read."


@dataclass(frozen=True)
class InversionInputs:
    """What a training reads."""

    histories: dict[str, list[str]]  # user_id -> item_ids without repetition, oldest first
    texts: dict[str, str]  # item_id -> its text, or its caption where it has none
    latents: dict[str, torch.Tensor]  # item_id -> (C, h, w)
    owner: Owner = "user_id"  # what the keys of the histories are


def gather_inputs(
    cases: pa.Table, items: Path, texts: dict[str, str], splits: Sequence[str], *, diffusion: LazyModel[Diffusion], owner: Owner = "user_id"
) -> InversionInputs:
    """Gather what the users of the splits are trained on."""
    histories = list_histories(cases, splits, owner=owner)
    seen = [item_id for history in histories.values() for item_id in history]
    latents, _ = compute_latents(items, seen, diffusion)
    return InversionInputs(histories, texts, latents, owner)


def list_histories(cases: pa.Table, splits: Sequence[str], *, owner: Owner = "user_id") -> dict[str, list[str]]:
    """Return the history of every user of the splits; several cases of a user are joined. ValueError without any user."""
    histories: dict[str, dict[str, None]] = {}
    for case in cases.to_pylist():
        if case["split"] in splits:
            histories.setdefault(case[owner], {}).update(dict.fromkeys(case["history"]))
    if not histories:
        raise ValueError(f"no case is of the splits {', '.join(splits)}, so there is no user to learn a pseudo-word for.")
    return {owner_id: list(items) for owner_id, items in sorted(histories.items())}


def learn_vectors(
    inputs: InversionInputs,
    config: TextualInversionConfig,
    *,
    diffusion: LazyModel[Diffusion],
    device: torch.device,
    seed: int,
    checkpoint_every: int,
) -> MapResult:
    """Learn the vectors of every user that the ledger lacks; a value holds `vectors` (float32 bytes), `losses` and the cost."""
    rows = [build_row(owner_id, item_ids, inputs, config, seed=seed) for owner_id, item_ids in inputs.histories.items()]
    no_image = Rejection(NO_IMAGE if inputs.owner == "user_id" else NO_RETRIEVED_IMAGE)

    def compute(batch: list[Row]) -> list[dict[str, Any] | Rejection]:
        users = [row.payload for row in batch]
        trainable = [user for user in users if user.train]
        if not trainable:
            return [no_image for _ in batch]
        filled = [user if user.train else trainable[0] for user in users]  # the batch keeps its size
        model = diffusion.model
        encoder = PseudoWordEncoder(model, num_vectors=config.num_vectors)
        training, state = fit_users(
            filled, config, encoder, Denoiser(model), revision=diffusion.revision, seed=seed, checkpoint_every=checkpoint_every
        )
        measured = [row["held_out_losses"] for row in state.curves if "held_out_losses" in row]
        return [
            build_value(training.vectors_UVE[index], [losses[index] for losses in measured]) if user.train else no_image
            for index, user in enumerate(users)
        ]

    with open_ledger(STAGE, COLUMNS, code=[learn_vectors, diffusion.load], inputs=(config, diffusion.revision, seed)) as ledger:
        return map_rows(ledger, rows, measure_rows(compute, device), batch_size=config.users_per_batch, label=STAGE).load()


def build_row(owner_id: str, item_ids: Sequence[str], inputs: InversionInputs, config: TextualInversionConfig, *, seed: int) -> Row:
    """Build a user's unit of work, identified by the latents and texts that it is trained on."""
    pictures = [Picture(item_id, inputs.latents[item_id], inputs.texts.get(item_id, "")) for item_id in item_ids if item_id in inputs.latents]
    if not pictures:
        return Row(owner_id, {inputs.owner: owner_id, "pictures": []}, UserPictures(owner_id, (), ()))
    described = [(picture.item_id, picture.text, picture.latent_Chw.numpy().tobytes()) for picture in pictures]
    return Row(owner_id, {inputs.owner: owner_id, "pictures": described}, split_pictures(owner_id, pictures, config, seed=seed))


def build_value(vectors_VE: torch.Tensor, losses: Sequence[float | None]) -> dict[str, Any]:
    """Return a trained user's row."""
    return {"vectors": vectors_VE.detach().float().cpu().numpy().tobytes(), "losses": [loss for loss in losses if loss is not None]}


def build_vectors(result: MapResult, *, owner: Owner = "user_id") -> list[dict[str, Any]]:
    """Return the rows of the table of vectors."""
    return [
        {owner: owner_id, "vectors": np.frombuffer(value["vectors"], dtype=np.float32), **name_losses(value["losses"])}
        for owner_id, value in result.values.items()
    ]


def name_losses(losses: Sequence[float]) -> dict[str, float | None]:
    """Return the held-out loss at the initial word and at the end; None for a user without held-out images."""
    return {"held_out_loss_before": losses[0] if losses else None, "held_out_loss": losses[-1] if losses else None}


def build_curves(result: MapResult, config: TextualInversionConfig) -> list[dict[str, Any]]:
    """Return the mean held-out loss over users at every measured step."""
    measured = [value["losses"] for value in result.values.values() if value["losses"]]
    steps = list_measured_steps(config)
    return [{"step": step, "held_out_loss": sum(column) / len(column)} for step, column in zip(steps, zip(*measured, strict=True), strict=False)]


def summarise(result: MapResult, *, seed: int) -> dict[str, Any]:
    """Return the metrics: users, held-out losses, and how much they fell, with a 95% interval over users."""
    pairs = {str(user_id): value["losses"] for user_id, value in result.values.items() if value["losses"]}
    fall = compute_mean_interval({user_id: losses[0] - losses[-1] for user_id, losses in pairs.items()}, seed=seed)
    num = len(pairs)
    return {
        "num_users": len(result.values),
        "held_out_loss_before": sum(losses[0] for losses in pairs.values()) / num if num else None,
        "held_out_loss": sum(losses[-1] for losses in pairs.values()) / num if num else None,
        "held_out_fall": fall.value,
        "held_out_fall_low": fall.low,
        "held_out_fall_high": fall.high,
        "share_of_users_improved": sum(losses[-1] < losses[0] for losses in pairs.values()) / num if num else None,
        "seed": seed,
    }
