"""Method `truth`: the item that the user really wanted to see, where the data set knows it: the ceiling of every table."""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.copying import CopyMethod


def build_method(context: GenerationContext) -> Method:
    """Build the method."""
    return CopyMethod(context, lambda case: case.truth_id)
