"""From tables to the tuned base model and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from pipeline.baselines.glide.config import NO_WEIGHTS, STAGE, GlideTuning
from pipeline.baselines.glide.fit import TextedPicture, fit_glide
from pipeline.baselines.histories import list_items
from pipeline.data.images import decode_batch
from pipeline.models.denoising import choose_training_dtype
from pipeline.models.folders import compute_model_revision
from pipeline.models.glide.model import Glide, load_glide
from pipeline.models.lazy import LazyModel
from pipeline.models.references import read_reference
from pipeline.params import read_section
from pipeline.randomness import make_generator
from pipeline.table_images import ImageColumn
from pipeline.training import CurveRow

READ_ROWS = 64  # images that are decoded at a time


@dataclass(frozen=True)
class TunedGlide:
    """What the stage writes."""

    tensors: dict[str, torch.Tensor]
    metrics: dict[str, Any]
    curves: list[CurveRow]
    seconds: float


def prepare_glide(params: Path, device: torch.device) -> LazyModel[Glide]:
    """Name the GLIDE of the params, in the number format that gradients pass through."""
    if read_section(params, "models.glide") is None:
        raise ValueError(NO_WEIGHTS)
    reference, dtype = read_reference(params, STAGE), choose_training_dtype(device)
    return LazyModel(f"{compute_model_revision(reference)} {dtype}", lambda: load_glide(reference, device=device, dtype=dtype))


def run_glide(
    cases: pa.Table, items: Path, texts: dict[str, str], config: GlideTuning, *, glide: LazyModel[Glide], seed: int, checkpoint_every: int
) -> TunedGlide:
    """Tune on what training users looked at and validate on what validation users did; `texts` are by item_id."""
    images = ImageColumn(items)
    parts = {split: [name for name in list_items(cases, split) if name in images and name in texts] for split in ("train", "val")}
    order = torch.randperm(len(parts["val"]), generator=make_generator(seed, STAGE, "validation")).tolist()
    parts["val"] = [parts["val"][index] for index in sorted(order[: config.validation_images])]
    size = glide.model.base.shape.image_size
    train, validation = ([TextedPicture(name, pixels, texts[name]) for name, pixels in read_pictures(images, part, size)] for part in parts.values())
    if not train or not validation:
        raise ValueError("no training or no validation user has looked at an image with a text, so there is nothing to tune on.")
    training, state = fit_glide(train, validation, config, glide.model, revision=glide.revision, seed=seed, checkpoint_every=checkpoint_every)
    losses = [row["validation_loss"] for row in state.curves if "validation_loss" in row]
    metrics = {"validation_loss_before": losses[0], "validation_loss": losses[-1], "num_images": len(train)}
    return TunedGlide(training.name_tensors(), metrics, state.curves, state.seconds)


def read_pictures(images: ImageColumn, item_ids: Sequence[str], size: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the pixels of images, resized (bicubic, the aspect is ignored): uint8 (3, size, size); one that cannot be read is left out."""
    for start in range(0, len(item_ids), READ_ROWS):
        encoded = images.read(item_ids[start : start + READ_ROWS])
        decoded, reasons = decode_batch(list(encoded.values()))
        for place, (name, image) in enumerate(zip(encoded, decoded, strict=True)):
            if place not in reasons:
                resized = image.resize((size, size), Image.Resampling.BICUBIC)
                yield name, torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
