"""Method `retrieved`: Stable Diffusion with the reference's text and the keywords that p_g names, those of the retrieved items, as a prompt."""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.tuned_method import build_tuned_method


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return build_tuned_method(context, lambda case: case.retrieved_prompt, "The keyword prompt is empty.")
