"""What every method may use: the cases, the items, the params, and the diffusion model, which is loaded on first use (copying loads none).

A method says what an image of a case depends on (`describe`, hashed into the row) and draws the images of a list of cases (`draw`); the loop
around it is shared.

Shapes: B cases, T token states of a prompt, D token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from torch import Tensor, device

from pipeline.data.cases import Case
from pipeline.data.images import ImageReader
from pipeline.data.texts import read_item_texts
from pipeline.generation.config import GenerationConfig
from pipeline.models.lazy import LazyModel
from pipeline.models.text_budget import UNBOUNDED, TextBudget
from pipeline.randomness import make_generator
from pipeline.rows import Rejection

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with figures about how it was made, such as the scores of the candidates that it was chosen from."""

    image: np.ndarray  # uint8 (H, W, 3)
    facts: dict[str, float]


Drawing = np.ndarray | AnnotatedImage | Rejection  # uint8 (H, W, 3), with figures about it, or why there is none


class Method(Protocol):
    """One way to draw a case."""

    context: GenerationContext
    identity: object  # what its images depend on beyond the case: model revisions, checkpoints, sampler
    ledger: str  # name of the finished rows; methods that may share images share the name

    def describe(self, case: Case) -> object | Rejection:
        """Return what the image depends on (hashed), or why the case cannot be drawn; loads no model."""
        ...

    def list_prompts(self, case: Case) -> list[str]:
        """List the prompts that the method itself has to make fit the text encoder, before that."""
        ...

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Draw one image per case; a case's image does not depend on the others."""
        ...


@dataclass
class GenerationContext:
    """Tables, params and the diffusion model; `files` holds what only some methods read, by the name of the stage's option."""

    params: Path
    config: GenerationConfig
    seed: int
    device: device
    cases: Sequence[Case]
    items: pa.Table  # without their images
    images: ImageReader
    captions: pa.Table | None  # only for methods that fall back on a caption
    diffusion: LazyModel[Diffusion]
    files: dict[str, Path] = field(default_factory=dict)
    budget: LazyModel[TextBudget] = field(default_factory=lambda: LazyModel("", lambda: UNBOUNDED))  # of the diffusion model's text encoder

    def get_file(self, name: str) -> Path:
        """Return the file that the stage was given as `--name`; ValueError if it was not."""
        if name not in self.files:
            raise ValueError(f"this method needs --{name.replace('_', '-')}; dvc.yaml says which stage writes that file.")
        return self.files[name]

    @cached_property
    def _item_rows(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.items["item_id"].to_pylist())}

    @cached_property
    def _texts(self) -> dict[str, str]:
        return read_item_texts(self.items, self.captions)

    def read_item(self, item_id: str, column: str) -> str | None:
        """Return a text column of an item; None if the item is unknown."""
        row = self._item_rows.get(item_id)
        return None if row is None else self.items[column][row].as_py()

    def read_text(self, item_id: str) -> str:
        """Return the item's own text, or its caption where it has none; empty if it has neither."""
        return self._texts.get(item_id, "")

    def fit_text(self, item_id: str) -> str:
        """Return what `read_text` says, as the text encoder will read it."""
        return self.budget.model.fit(self.read_text(item_id)).text

    def draw_prompts(self, diffusion: Diffusion, prompt_BTD: Tensor, cases: Sequence[Case], *, image_index: int = 0) -> list[np.ndarray | Rejection]:
        """Draw token states with the final sampler, the same for every method; so is the noise that the n-th image of a case starts from."""
        from pipeline.models.diffusion import NOT_FINITE, NotFiniteError  # late: copying methods load no diffusers

        names = ("generation",) if image_index == 0 else ("generation", str(image_index))
        try:
            images = diffusion.draw(
                prompt_BTD,
                generators=[make_generator(self.seed, *names, case.case_id) for case in cases],
                steps=self.config.steps,
                guidance_scale=self.config.guidance_scale,
                negative_prompt=self.config.negative_prompt,
            )
        except NotFiniteError as error:
            drawn = zip(error.images_BHWC, error.bad_B, strict=True)
            return [Rejection(f"The drawn image is not finite; {NOT_FINITE}") if bad else image for image, bad in drawn]
        return list(images)

    def describe_sampler(self) -> dict[str, object]:
        """Return what every drawn image depends on, apart from its prompt and the diffusion model."""
        negative_prompt = self.config.negative_prompt
        return {
            "steps": self.config.steps,
            "guidance_scale": self.config.guidance_scale,
            "scheduler": self.config.scheduler,
            "batch_size": self.config.batch_size,  # may change the last bits
            "seed": self.seed,
            **({"negative_prompt": negative_prompt} if negative_prompt else {}),  # rows that were drawn without one keep their key
        }
