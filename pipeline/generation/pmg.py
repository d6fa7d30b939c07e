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

from pipeline.data.cases import Case
from pipeline.generation.studio import Drawing, Method, Noted, Studio, Taste
from pipeline.ledger import Rejection
from pipeline.pmg.config import SelectionConfig
from pipeline.pmg.prompts import write_image_prompt
from pipeline.pmg.selection import compute_balance


@dataclass
class PmgMethod:
    """Draw the candidates of each case and keep the one with the highest score."""

    studio: Studio
    selection: SelectionConfig

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler, and how an image is chosen by which CLIP."""
        return {**self.studio.describe_drawing(), "selection": asdict(self.selection), "clip": self.studio.revisions["selection_clip"]}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the keywords, the soft embeddings and, through the noise, on the case."""
        taste = self.studio.baselines.tastes.get(case.case_id)
        if taste is None:
            return Rejection("The language model named no keywords of this user's taste.")
        if not taste.target:
            return Rejection("The reference has neither a text nor a caption.")
        return {"preference": taste.preference, "target": taste.target, "soft": taste.soft_Md.tobytes(), "case_id": case.case_id}

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Draw all candidates and choose."""
        tastes = [self.studio.baselines.tastes[case.case_id] for case in cases]
        candidates: list[list[np.ndarray]] = []  # of each case, all weights of the first noise, then of the next
        for image_index in range(self.selection.num_images):
            for style_weight in self.selection.style_weights:
                prompt_BTd = self.encode(tastes, style_weight)
                drawn = self.studio.draw_prompts(prompt_BTd, cases, negative_prompt=self.selection.negative_prompt, image_index=image_index)
                candidates.append(drawn)
        return [self.choose(list(images), taste) for images, taste in zip(zip(*candidates, strict=True), tastes, strict=True)]

    def encode(self, tastes: Sequence[Taste], style_weight: int) -> torch.Tensor:
        """Encode the keywords and put the soft embeddings behind them -> (B, K + M, d)."""
        prompts = [write_image_prompt(taste.target, taste.preference, style_weight=style_weight) for taste in tastes]
        states_BKd, _ = self.studio.diffusion.encode_prompts(prompts)
        soft_BMd = torch.from_numpy(np.stack([taste.soft_Md for taste in tastes]))
        return torch.cat([states_BKd, soft_BMd], dim=1) if soft_BMd.numel() else states_BKd

    def choose(self, images: list[np.ndarray], taste: Taste) -> Noted:
        """Keep the image with the highest balance of taste and target; its score and the first image's are noted."""
        clip = self.studio.clip
        image_NV = clip.encode_images([Image.fromarray(image) for image in images])
        preference_V, target_V = clip.encode_texts([", ".join(taste.preference), ", ".join(taste.target)])
        score_N = compute_balance(image_NV, preference_V, target_V, alpha=self.selection.alpha)
        best = int(score_N.argmax())
        return Noted(images[best], {"selection_score": score_N[best].item(), "selection_score_first": score_N[0].item()})


def build_method(studio: Studio) -> Method:
    """Build the method."""
    assert studio.baselines.selection is not None, "the stage reads it for every method"
    return PmgMethod(studio, studio.baselines.selection)
