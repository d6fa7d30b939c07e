"""What every method may use: the cases, the items, the params, and the diffusion model, which is loaded on first use (copying loads none).

A method says what an image of a case depends on (`describe`, hashed into the row) and draws the images of a list of cases (`draw`); the loop
around it is shared.

Shapes: B cases, T token states of a prompt, D token width, M look tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image
from torch import Tensor, device

from pipeline.artifacts import get_matrix
from pipeline.conditioning.look_balance import LookSetting
from pipeline.data.cases import Case
from pipeline.data.images import ImageReader, decode_batch
from pipeline.data.texts import read_item_texts
from pipeline.generation.config import GenerationConfig
from pipeline.models.lazy import LazyModel
from pipeline.models.text_budget import UNBOUNDED, TextBudget
from pipeline.randomness import make_generator
from pipeline.rows import Rejection

if TYPE_CHECKING:
    from pipeline.models.diffusion import Diffusion, LookPrompt, Start
    from pipeline.models.look import LookMap


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
    embeddings: pa.Table | None = None  # only for methods that look at the history's pictures
    has_looks: bool = False  # whether the stage preference wrote look tokens
    noise_of: Mapping[str, str] = field(default_factory=dict)  # case_id -> the case whose noise it shares

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

    @cached_property
    def _visual(self) -> dict[str, np.ndarray]:
        if self.embeddings is None:
            return {}
        return dict(zip(self.embeddings["item_id"].to_pylist(), get_matrix(self.embeddings, "visual").astype(np.float32), strict=True))

    def find_visual(self, item_id: str) -> np.ndarray | None:
        """Return what Enc^vis sees in an item's picture, a unit vector (V,); None if it has none."""
        return self._visual.get(item_id)

    def fit_text(self, item_id: str) -> str:
        """Return what `read_text` says, as the text encoder will read it."""
        return self.budget.model.fit(self.read_text(item_id)).text

    def name_noise(self, case: Case) -> str:
        """Return what the noise of a case is named after: the case, or the first one of its matched pair."""
        return self.noise_of.get(case.case_id, case.case_id)

    def describe_case(self, case: Case) -> dict[str, object]:
        """Return what an image depends on whatever a method draws it from: its noise, and the picture that it is drawn over."""
        start = {"start": self.read_item(case.reference_id, "image_sha256")} if self.config.start == "reference" else {}
        return {"case_id": self.name_noise(case), **start}

    def draw_prompts(
        self, diffusion: Diffusion, prompt_BTD: Tensor, cases: Sequence[Case], *, image_index: int = 0, look: LookPrompt | None = None
    ) -> list[np.ndarray | Rejection]:
        """Draw token states with the final sampler, the same for every method; so is the noise that the n-th image of a case starts from."""
        from pipeline.models.diffusion import NOT_FINITE, NotFiniteError  # late: copying methods load no diffusers

        names = ("generation",) if image_index == 0 else ("generation", str(image_index))
        start, reasons = self._find_start(diffusion, cases)
        try:
            images = diffusion.draw(
                prompt_BTD,
                generators=[make_generator(self.seed, *names, self.name_noise(case)) for case in cases],
                steps=self.config.steps,
                guidance_scale=self.config.guidance_scale,
                negative_prompt=self.config.negative_prompt,
                look=look,
                start=start,
            )
            bad_B = np.zeros(len(images), dtype=bool)
        except NotFiniteError as error:
            images, bad_B = error.images_BHWC, error.bad_B
        reasons = dict.fromkeys(np.flatnonzero(bad_B).tolist(), f"The drawn image is not finite; {NOT_FINITE}") | reasons
        return [Rejection(reasons[row]) if row in reasons else image for row, image in enumerate(images)]

    def _find_start(self, diffusion: Diffusion, cases: Sequence[Case]) -> tuple[Start | None, dict[int, str]]:
        """Return the references' pictures as latents where they are drawn over, and why those of some rows cannot be."""
        if self.config.start == "noise":
            return None, {}
        from pipeline.models.diffusion import Start  # late, as above

        known = self.images.read(sorted({case.reference_id for case in cases if case.reference_id in self._item_rows}))
        images, reasons = decode_batch([known.get(case.reference_id, b"") for case in cases])
        side = (diffusion.image_size, diffusion.image_size)
        latents_BChw = diffusion.encode_images(np.stack([np.asarray(image.resize(side, Image.Resampling.BICUBIC)) for image in images]))
        named = {row: f"The image of {cases[row].reference_id}, which is drawn over, cannot be used: {reason}" for row, reason in reasons.items()}
        return Start(latents_BChw, self.config.strength), named

    def build_look(self, look: LookMap, tokens: Tensor | LookSetting) -> LookPrompt:
        """Put look tokens (B, M, d) behind the words, as far as the params let guidance lead to them, times what a case's setting says."""
        from pipeline.models.diffusion import LookPrompt  # late, as above

        no_look_MD, scale = look.no_look_MD.detach(), self.config.look_scale
        if isinstance(tokens, Tensor):
            return LookPrompt(tokens, no_look_MD, scale)
        return LookPrompt(tokens.tokens, no_look_MD, scale * tokens.look, tokens.words)

    def describe_sampler(self) -> dict[str, object]:
        """Return what every drawn image depends on, apart from its prompt and the diffusion model."""
        negative_prompt = self.config.negative_prompt
        return {
            "steps": self.config.steps,
            "guidance_scale": self.config.guidance_scale,
            "scheduler": self.config.scheduler,
            "batch_size": self.config.batch_size,  # may change the last bits
            "seed": self.seed,
            # rows that were drawn without one keep their key
            **({"negative_prompt": negative_prompt} if negative_prompt else {}),
            **({"start": self.config.start, "strength": self.config.strength} if self.config.start != "noise" else {}),
        }

    def describe_look(self, look: LazyModel[LookMap] | None) -> dict[str, object]:
        """Return what an image with look tokens depends on beyond the tokens; nothing without them."""
        return {} if look is None else {"look": look.revision, "look_scale": self.config.look_scale}
