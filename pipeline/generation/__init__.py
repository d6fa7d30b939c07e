"""Generation: one image a case and method. A new method is one file with a `build_method` and one line in `METHODS`."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.generation import copies, global_preference, keyword_prompt, pmg, ragar, sd, ti
from pipeline.generation.context import GenerationContext, Method

METHODS: dict[str, Callable[[GenerationContext], Method]] = {
    "original": copies.build_original,  # the reference as it is: the floor of every table
    "truth": copies.build_truth,  # what the user really wanted to see: the ceiling
    "sd": sd.build_method,
    "keywords": keyword_prompt.build_keywords,  # variants of sd
    "retrieved": keyword_prompt.build_retrieved,
    "ti": ti.build_method,
    "pmg": pmg.build_method,
    "global": global_preference.build_method,
    "ragar": ragar.build_method,
}


def build_method(name: str, context: GenerationContext) -> Method:
    """Build the method `name`; ValueError names the choices."""
    if name not in METHODS:
        raise ValueError(f"method is {name!r}, but it must be one of: {', '.join(METHODS)}.")
    return METHODS[name](context)
