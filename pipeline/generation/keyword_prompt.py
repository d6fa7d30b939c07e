"""Methods `keywords` and `retrieved`: Stable Diffusion with the reference's text and keywords as a plain prompt, variants of `sd`.

`keywords` names those of the whole history (eq. 6 as printed: no retrieval), `retrieved` those that p_g names. Neither has a
calibrator or language model states, so they show what the words alone are worth.
"""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.texts import TextMethod

EMPTY = "The keyword prompt is empty."


def build_keywords(context: GenerationContext) -> Method:
    """Build the method `keywords`."""
    return TextMethod(context, lambda case: case.keyword_prompt, EMPTY, context.baselines.negative_prompt)


def build_retrieved(context: GenerationContext) -> Method:
    """Build the method `retrieved`."""
    return TextMethod(context, lambda case: case.retrieved_prompt, EMPTY, context.baselines.negative_prompt)
