"""Method `original`: the reference as it is, the floor of every table."""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.copying import CopyMethod


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return CopyMethod(context, lambda case: case.reference_id)
