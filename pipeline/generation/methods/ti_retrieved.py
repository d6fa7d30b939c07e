"""Method `ti_retrieved`: the method `ti` with a pseudo-word that was learned for the case, from its retrieved images alone."""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.methods.ti import build_inversion
from pipeline.schemas import CASE_PSEUDO_WORDS


def build_method(context: GenerationContext) -> Method:
    """Build the method from the table of every case's vectors."""
    return build_inversion(context, CASE_PSEUDO_WORDS)
