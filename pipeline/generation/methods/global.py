"""Method `global`: the image of the global preference E^g alone (paper: v^glob of eq. 10), without calibrator and language model states."""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.text_method import TextMethod


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return TextMethod(context, context.diffusion, lambda case: case.global_prompt, "The global prompt is empty.")
