"""Method `ragar`: the image of the general preference P^gen, after reflection (paper: eq. 7-9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.data.cases import Case
from pipeline.generation.context import Drawing, GenerationContext, Method
from pipeline.rows import Rejection


@dataclass
class RagarMethod:
    """Compute P^gen with the trained mapper and calibrator from cached language model states, and draw it."""

    context: GenerationContext

    @property
    def identity(self) -> object:
        """The diffusion model, the language model and the trained conditioner."""
        names = ("language_model", "conditioner")
        return {**self.context.describe_drawing(), **{name: self.context.revisions[name] for name in names}}

    def describe(self, case: Case) -> object | Rejection:
        """An image depends on both prompts and, through the noise, on the case."""
        return {"global_prompt": case.global_prompt, "detailed_prompt": case.detailed_prompt, "case_id": case.case_id}

    def draw(self, cases: Sequence[Case]) -> list[Drawing]:
        """Compute P^gen and draw."""
        with torch.inference_mode():
            prompt_BTD = self.context.conditioner(self.context.select_inputs(cases)).prompt_BTD
        return list(self.context.draw_prompts(prompt_BTD, cases))


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return RagarMethod(context)
