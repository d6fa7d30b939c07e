"""Methods `keywords` and `retrieved`: Stable Diffusion with the reference's text and keywords as a plain prompt, variants of `sd`.

`keywords` names those of the whole history (eq. 6 as printed: no retrieval), `retrieved` those that p_g names. Neither has a
calibrator or language model states, so they show what the words alone are worth.
"""

from __future__ import annotations

from pipeline.generation.studio import Method, Studio
from pipeline.generation.texts import TextMethod

EMPTY = "The keyword prompt is empty."


def build_keywords(studio: Studio) -> Method:
    """Build the method `keywords`."""
    return TextMethod(studio, lambda case: case.keyword_prompt, EMPTY, studio.baselines.negative_prompt)


def build_retrieved(studio: Studio) -> Method:
    """Build the method `retrieved`."""
    return TextMethod(studio, lambda case: case.retrieved_prompt, EMPTY, studio.baselines.negative_prompt)
