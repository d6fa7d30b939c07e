"""Method `pmg`: keywords of target and taste with soft embeddings behind them; of several images the best balanced one (paper: the baseline PMG).

The stage `pmg` makes keywords and embeddings. A case's images are drawn for every weight of the taste, which is the number of times that its
keywords are named, and for `num_images` noises, the first of which all methods share. Departure: where the text encoder does not read all,
the target's text is shortened first, and keywords beyond the encoder's length are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from pipeline.artifacts import get_matrix, read_provenance, read_table
from pipeline.baselines.pmg.config import SelectionConfig
from pipeline.baselines.pmg.prompts import write_image_prompt
from pipeline.baselines.pmg.selection import compute_balance
from pipeline.data.cases import Case
from pipeline.generation.context import AnnotatedImage, Drawing, GenerationContext, Method
from pipeline.models.encoders import load_clip
from pipeline.models.folders import compute_model_revision
from pipeline.models.lazy import LazyModel
from pipeline.models.references import parse_dtype, read_reference
from pipeline.params import load_params, read_section
from pipeline.rows import Rejection
from pipeline.schemas import PMG_PREFERENCES

if TYPE_CHECKING:
    from pipeline.models.encoders import ClipEncoder


@dataclass(frozen=True)
class PmgPreference:
    """What PMG knows of a case."""

    keywords: tuple[str, ...]  # of the user's taste
    target: tuple[str, ...]  # keywords of the reference
    soft_Md: np.ndarray  # soft embeddings, none (0, d) where the stage made none


@dataclass
class PmgMethod:
    """Draw the candidates of each case and keep the one with the highest score."""

    context: GenerationContext
    preferences: dict[str, PmgPreference]  # by case_id
    selection: SelectionConfig
    clip: LazyModel[ClipEncoder]

    ledger = "pmg"

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler, and how an image is chosen by which CLIP."""
        return {
            **self.context.describe_sampler(),
            "diffusion": self.context.diffusion.revision,
            "selection": asdict(self.selection),
            "clip": self.clip.revision,
        }

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the keywords, the soft embeddings and, through the noise, on the case."""
        preference = self.preferences.get(case.case_id)
        if preference is None:
            return Rejection("The language model named no keywords of this user's taste.")
        if not preference.target:
            return Rejection("The reference has neither a text nor a caption.")
        described = {"preference": preference.keywords, "target": preference.target, "soft": preference.soft_Md.tobytes()}
        return {**described, **self.context.describe_case(case)}

    def list_prompts(self, case: Case) -> list[str]:
        """List the prompts of all weights."""
        preference = self.preferences[case.case_id]
        return [write_image_prompt(preference.target, preference.keywords, style_weight=weight) for weight in self.selection.style_weights]

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Draw all candidates and choose."""
        preferences = [self.preferences[case.case_id] for case in cases]
        candidates: list[list[np.ndarray | Rejection]] = []  # of each case, all weights of the first noise, then of the next
        for image_index in range(self.selection.num_images):
            for style_weight in self.selection.style_weights:
                prompt_BTd = self.encode(preferences, style_weight)
                candidates.append(self.context.draw_prompts(self.context.diffusion.model, prompt_BTd, cases, image_index=image_index))
        return [self.choose(list(images), preference) for images, preference in zip(zip(*candidates, strict=True), preferences, strict=True)]

    def encode(self, preferences: Sequence[PmgPreference], style_weight: int) -> torch.Tensor:
        """Encode the keywords and put the soft embeddings behind them -> (B, K + M, d)."""
        diffusion = self.context.diffusion.model
        prompts = [
            write_image_prompt(preference.target, preference.keywords, style_weight=style_weight, budget=diffusion.text_budget)
            for preference in preferences
        ]
        states_BKd, _ = diffusion.encode_prompts(prompts)
        soft_BMd = torch.from_numpy(np.stack([preference.soft_Md for preference in preferences]))
        return torch.cat([states_BKd, soft_BMd], dim=1) if soft_BMd.numel() else states_BKd

    def choose(self, candidates: list[np.ndarray | Rejection], preference: PmgPreference) -> AnnotatedImage | Rejection:
        """Keep the image with the highest balance of taste and target; its score and the first image's are noted."""
        images = [candidate for candidate in candidates if not isinstance(candidate, Rejection)]
        if not images:
            return candidates[0]
        clip = self.clip.model
        image_NV = clip.encode_images([Image.fromarray(image) for image in images])
        target = clip.text_budget.fit_beginning(", ".join(preference.target), preference.target[0]).text
        preference_V, target_V = clip.encode_texts([", ".join(preference.keywords), target])
        score_N = compute_balance(image_NV, preference_V, target_V, alpha=self.selection.alpha)
        best = int(score_N.argmax())
        return AnnotatedImage(images[best], {"selection_score": score_N[best].item(), "selection_score_first": score_N[0].item()})


def build_method(context: GenerationContext) -> Method:
    """Build the method from the table that the stage pmg writes."""
    reference, dtype_name = read_reference(context.params, "selection_clip"), read_section(context.params, "models.dtype")
    dtype = parse_dtype(dtype_name, context.device)
    clip = LazyModel(f"{compute_model_revision(reference)} {dtype_name}", lambda: load_clip(reference, device=context.device, dtype=dtype))
    selection = load_params(context.params, "pmg.selection", SelectionConfig)
    return PmgMethod(context, read_preferences(context.get_file("pmg_preferences")), selection, clip)


def read_preferences(path: Path) -> dict[str, PmgPreference]:
    """Return what PMG knows of every case; without soft embeddings their place is empty."""
    table, num_soft = read_table(path, PMG_PREFERENCES), read_provenance(path)["num_soft"]
    columns = (table[name].to_pylist() for name in ("case_id", "preference_keywords", "target_keywords"))
    return {
        case_id: PmgPreference(tuple(keywords), tuple(target), soft.reshape(num_soft, -1) if num_soft else np.zeros((0, 0), dtype=np.float32))
        for case_id, keywords, target, soft in zip(*columns, get_matrix(table, "soft"), strict=True)
    }
