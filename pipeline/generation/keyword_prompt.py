"""Method `keywords`: the image of the reference's text and the whole history's keywords (eq. 6 as printed) as a plain prompt: no retrieval."""

from __future__ import annotations

from pipeline.generation.studio import Method, Studio
from pipeline.generation.texts import TextMethod


def build_method(studio: Studio) -> Method:
    """Build the method."""
    return TextMethod(studio, lambda case: case.keyword_prompt, "The keyword prompt is empty.")
