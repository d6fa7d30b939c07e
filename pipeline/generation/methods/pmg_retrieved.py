"""Method `pmg_retrieved`: the method `pmg` with keywords and soft embeddings that the stage `pmg` made of the case's retrieved items alone."""

from __future__ import annotations

from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.methods import pmg


def build_method(context: GenerationContext) -> Method:
    """Build the method from the table that the stage pmg writes of the retrieved items."""
    return pmg.build_method(context)
