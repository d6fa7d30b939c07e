"""Method `oracle`: the reference's text with the look of pictures in the truth's own style: the most that look tokens could know of a user.

It reads the answer, so it is a bound and no competitor. The pictures show other things than the truth, drawn by seeded choice from the whole
catalogue; both cases of a matched pair differ in them as in their truths.
"""

from __future__ import annotations

import torch

from pipeline.artifacts import read_table
from pipeline.data.cases import Case
from pipeline.generation.context import GenerationContext, Method
from pipeline.generation.image_prompts import NUM_PICTURES, build_image_prompts
from pipeline.randomness import make_generator
from pipeline.rows import Rejection
from pipeline.schemas import LABELS


def build_method(context: GenerationContext) -> Method:
    """Build the method from the catalogue's vectors and labels."""
    context.get_file("embeddings")
    label_of = {row["item_id"]: row for row in read_table(context.get_file("labels"), LABELS).to_pylist()}
    items_of: dict[str, list[str]] = {}  # by style
    for item_id, label in sorted(label_of.items()):
        if context.find_visual(item_id) is not None:
            items_of.setdefault(label["style"], []).append(item_id)

    def choose_alike(case: Case) -> list[str] | Rejection:
        """Return pictures of other things in the truth's style."""
        truth = label_of.get(case.truth_id or "")
        if truth is None:
            return Rejection("The data set knows no truth with a style for this case.")
        found = [item_id for item_id in items_of.get(truth["style"], ()) if label_of[item_id]["concept"] != truth["concept"]]
        order = torch.randperm(len(found), generator=make_generator(context.seed, "oracle", case.case_id)).tolist()
        return [found[place] for place in order[:NUM_PICTURES]] or Rejection("No other thing has a picture in the truth's style.")

    return build_image_prompts(context, choose_alike, ledger="oracle")
