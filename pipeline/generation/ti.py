"""Method `ti`: Stable Diffusion with the reference's text and the user's pseudo-word in one prompt (paper: the baseline TI).

The vectors are those of the stage `ti`. Departure: the paper does not say how it prompts; `ti.template` is the prompt of training as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data.cases import Case
from pipeline.generation.context import Drawing, GenerationContext, Method
from pipeline.rows import Rejection


@dataclass
class TextualInversionMethod:
    """Encode the prompt with the user's learned vectors spliced in, and draw it."""

    context: GenerationContext

    @property
    def identity(self) -> object:
        """The diffusion model, the sampler, the template and what guidance leads away from."""
        baselines = self.context.baselines
        return {**self.context.describe_drawing(), "template": baselines.template, "negative_prompt": baselines.negative_prompt}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on the reference's text, the user's vectors and, through the noise, on the case."""
        text, vectors_VE = self.context.read_text(case.reference_id), self.context.baselines.vectors.get(case.user_id)
        if not text:
            return Rejection("The reference has neither a text nor a caption.")
        if vectors_VE is None:
            return Rejection("No pseudo-word was learned for this user.")
        return {"text": text, "vectors": vectors_VE.tobytes(), "case_id": case.case_id}

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Encode and draw."""
        from pipeline.models.pseudo_words import PseudoWordEncoder

        baselines = self.context.baselines
        vectors_BVE = torch.from_numpy(np.stack([baselines.vectors[case.user_id] for case in cases]))
        encoder = PseudoWordEncoder(self.context.diffusion, num_vectors=vectors_BVE.shape[1])
        prompts = [encoder.write_prompt(baselines.template, self.context.read_text(case.reference_id)) for case in cases]
        with torch.inference_mode():
            prompt_BKD = encoder.encode(prompts, vectors_BVE)
        return list(self.context.draw_prompts(prompt_BKD, cases, negative_prompt=baselines.negative_prompt))


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return TextualInversionMethod(context)
