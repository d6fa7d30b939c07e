"""Method `keywords`: Stable Diffusion with the reference's text and the whole history's keywords (eq. 6 as printed: no retrieval) as a prompt.

It has neither calibrator nor language model states, so it shows what the words alone are worth.
"""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.tuned_method import build_tuned_method


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return build_tuned_method(context, lambda case: case.keyword_prompt, "The keyword prompt is empty.")
