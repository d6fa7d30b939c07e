"""What every method may use: the items, the params, and models that are loaded on first use (copying images loads none).

A method is one file with a `build_method(context)` and one line in `pipeline/generation/__init__.py`. It says what an image of a case
depends on (`describe`, hashed into the row) and draws the images of a list of cases (`draw`); the loop around it is shared.

Shapes: B cases, T token states of a prompt, D token width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image
from torch import Tensor

from pipeline.baselines.pmg.config import SelectionConfig
from pipeline.data.cases import Case
from pipeline.data.texts import read_item_texts
from pipeline.generation.config import GenerationConfig
from pipeline.randomness import make_generator
from pipeline.rows import Rejection

if TYPE_CHECKING:
    from pipeline.conditioning.conditioner import Conditioner, ConditionInputs
    from pipeline.models.diffusion import Diffusion


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with figures about how it was made, such as the scores of the candidates that it was chosen from."""

    image: np.ndarray  # uint8 (H, W, 3)
    facts: dict[str, float]


Drawing = np.ndarray | AnnotatedImage | Rejection  # uint8 (H, W, 3), with figures about it, or why there is none


class Method(Protocol):
    """One way to draw a case; `identity` is what its images depend on beyond the case (model revisions, checkpoints)."""

    identity: object

    def describe(self, case: Case) -> object | Rejection:
        """Return what the image depends on (hashed), or why the case cannot be drawn; loads no model."""
        ...

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Draw one image a case; a case's image does not depend on the others."""
        ...


class ClipModel(Protocol):
    """The part of a CLIP encoder that the choice among images uses; vectors are L2-normalised, on the CPU."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor: ...
    def encode_texts(self, texts: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class PmgPreference:
    """What PMG knows of a case."""

    keywords: tuple[str, ...]  # of the user's taste
    target: tuple[str, ...]  # keywords of the reference
    soft_Md: np.ndarray  # soft embeddings, none (0, d) where the stage made none


@dataclass(frozen=True)
class Baselines:
    """What only the methods that RAGAR is compared with need; their trained parts come from the stages `ti` and `pmg`."""

    negative_prompt: str = ""  # of sd, its variants and ti
    template: str = ""  # of ti, the one that its vectors were trained with
    vectors: dict[str, np.ndarray] = field(default_factory=dict)  # of ti: user_id -> (V, E)
    pmg_preferences: dict[str, PmgPreference] = field(default_factory=dict)  # of pmg, by case_id
    selection: SelectionConfig | None = None  # of pmg


@dataclass
class GenerationContext:
    """Tables, params and lazily loaded models; `revisions` names the exact weights behind the loaders."""

    config: GenerationConfig
    seed: int
    cases: Sequence[Case]
    items: pa.Table
    captions: pa.Table | None  # only for methods that fall back on a caption
    load_diffusion: Callable[[], Diffusion]
    load_conditioner: Callable[[], Conditioner]
    compute_inputs: Callable[[Sequence[Case], Conditioner, Diffusion], ConditionInputs]
    load_clip: Callable[[], ClipModel]
    revisions: dict[str, str] = field(default_factory=dict)
    baselines: Baselines = field(default_factory=Baselines)

    @cached_property
    def diffusion(self) -> Diffusion:
        """The diffusion model, loaded on first use."""
        return self.load_diffusion()

    @cached_property
    def clip(self) -> ClipModel:
        """The CLIP that PMG chooses by, loaded on first use."""
        return self.load_clip()

    @cached_property
    def conditioner(self) -> Conditioner:
        """The trained mapper and calibrator, loaded on first use."""
        return self.load_conditioner()

    @cached_property
    def _inputs(self) -> ConditionInputs:
        return self.compute_inputs(self.cases, self.conditioner, self.diffusion)

    @cached_property
    def _case_rows(self) -> dict[str, int]:
        return {case.case_id: row for row, case in enumerate(self.cases)}

    def select_inputs(self, cases: Sequence[Case]) -> ConditionInputs:
        """Return the conditioner's inputs of some cases; those of all cases are computed (or read back) on first use."""
        return self._inputs.select([self._case_rows[case.case_id] for case in cases])

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

    def read_image(self, item_id: str) -> bytes:
        """Return the item's image as it is stored, decodable or not."""
        return self.items["image"][self._item_rows[item_id]].as_py()["bytes"] or b""

    def read_text(self, item_id: str) -> str:
        """Return the item's own text, or its caption where it has none; empty if it has neither."""
        return self._texts.get(item_id, "")

    def draw_prompts(self, prompt_BTD: Tensor, cases: Sequence[Case], *, negative_prompt: str = "", image_index: int = 0) -> list[np.ndarray]:
        """Draw token states with the final sampler; the n-th image of a case starts from the same noise in every method."""
        names = ("generation",) if image_index == 0 else ("generation", str(image_index))
        images = self.diffusion.draw(
            prompt_BTD,
            generators=[make_generator(self.seed, *names, case.case_id) for case in cases],
            steps=self.config.steps,
            guidance_scale=self.config.guidance_scale,
            negative_prompt=negative_prompt,
        )
        return list(images)

    def describe_drawing(self) -> dict[str, object]:
        """Return what every image that the diffusion model draws depends on, apart from its prompt."""
        return {
            "diffusion": self.revisions["diffusion"],
            "steps": self.config.steps,
            "guidance_scale": self.config.guidance_scale,
            "scheduler": self.config.scheduler,
            "batch_size": self.config.batch_size,  # may change the last bits
            "seed": self.seed,
        }
