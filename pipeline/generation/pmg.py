"""Method `pmg`: keywords of target and taste with soft embeddings behind them; of several images the best balanced one (paper: the baseline PMG).

The stage `pmg` makes keywords and embeddings. A case's images are drawn for every weight of the taste, which is the number of times that its
keywords are named, and for `num_images` noises, the first of which all methods share. Departure: keywords beyond the encoder's length are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image

from pipeline.baselines.pmg.config import SelectionConfig
from pipeline.baselines.pmg.prompts import write_image_prompt
from pipeline.baselines.pmg.selection import compute_balance
from pipeline.data.cases import Case
from pipeline.generation.context import AnnotatedImage, Drawing, GenerationContext, Method, PmgPreference
from pipeline.rows import Rejection


@dataclass
class PmgMethod:
    """Draw the candidates of each case and keep the one with the highest score."""

    context: GenerationContext
    selection: SelectionConfig

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler, and how an image is chosen by which CLIP."""
        return {**self.context.describe_drawing(), "selection": asdict(self.selection), "clip": self.context.revisions["selection_clip"]}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the keywords, the soft embeddings and, through the noise, on the case."""
        preference = self.context.baselines.pmg_preferences.get(case.case_id)
        if preference is None:
            return Rejection("The language model named no keywords of this user's taste.")
        if not preference.target:
            return Rejection("The reference has neither a text nor a caption.")
        return {"preference": preference.keywords, "target": preference.target, "soft": preference.soft_Md.tobytes(), "case_id": case.case_id}

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Draw all candidates and choose."""
        preferences = [self.context.baselines.pmg_preferences[case.case_id] for case in cases]
        candidates: list[list[np.ndarray]] = []  # of each case, all weights of the first noise, then of the next
        for image_index in range(self.selection.num_images):
            for style_weight in self.selection.style_weights:
                prompt_BTd = self.encode(preferences, style_weight)
                drawn = self.context.draw_prompts(prompt_BTd, cases, negative_prompt=self.selection.negative_prompt, image_index=image_index)
                candidates.append(drawn)
        return [self.choose(list(images), preference) for images, preference in zip(zip(*candidates, strict=True), preferences, strict=True)]

    def encode(self, preferences: Sequence[PmgPreference], style_weight: int) -> torch.Tensor:
        """Encode the keywords and put the soft embeddings behind them -> (B, K + M, d)."""
        prompts = [write_image_prompt(preference.target, preference.keywords, style_weight=style_weight) for preference in preferences]
        states_BKd, _ = self.context.diffusion.encode_prompts(prompts)
        soft_BMd = torch.from_numpy(np.stack([preference.soft_Md for preference in preferences]))
        return torch.cat([states_BKd, soft_BMd], dim=1) if soft_BMd.numel() else states_BKd

    def choose(self, images: list[np.ndarray], preference: PmgPreference) -> AnnotatedImage:
        """Keep the image with the highest balance of taste and target; its score and the first image's are noted."""
        clip = self.context.clip
        image_NV = clip.encode_images([Image.fromarray(image) for image in images])
        preference_V, target_V = clip.encode_texts([", ".join(preference.keywords), ", ".join(preference.target)])
        score_N = compute_balance(image_NV, preference_V, target_V, alpha=self.selection.alpha)
        best = int(score_N.argmax())
        return AnnotatedImage(images[best], {"selection_score": score_N[best].item(), "selection_score_first": score_N[0].item()})


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    assert context.baselines.selection is not None, "the stage reads it for every method"
    return PmgMethod(context, context.baselines.selection)
