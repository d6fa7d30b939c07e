"""Method `ip_adapter`: the reference's text with the look of the user's last pictures, as a practitioner would do without any of the rest."""

from __future__ import annotations

from pipeline.data.cases import Case
from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.image_prompts import NUM_PICTURES, build_image_prompts
from pipeline.retrieval.history import list_unique
from pipeline.rows import Rejection


def build_method(context: GenerationContext) -> Method:
    """Build the method from the catalogue's vectors."""
    context.get_file("embeddings")

    def choose_newest(case: Case) -> list[str] | Rejection:
        """Return the newest items of the history whose picture has a vector, the oldest of them first."""
        found = [item_id for item_id in list_unique(case.history) if context.find_visual(item_id) is not None]
        return found[-NUM_PICTURES:] or Rejection("None of the history's pictures has a vector.")

    return build_image_prompts(context, choose_newest, ledger="ip_adapter")
