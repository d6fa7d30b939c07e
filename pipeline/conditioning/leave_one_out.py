"""Leave-one-out cases for stage 0: a history item stands where the reference will stand, and its caption is what the mapper learns to say.

Not in the paper, which does not say how its mapper came to fit its language model. The prompt p_g of such a case names the keywords of
the user's other items, chosen by the retrieval and the rules of the real cases, and the item's own text. So the mapper learns to say
a thing in the look that a user of this taste went for. Only users of the training split are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from pipeline.artifacts import build_table
from pipeline.columns import map_columns
from pipeline.data.texts import read_item_texts
from pipeline.keywords.preference import PreferenceBuilder, PreferenceConfig, build_preferences
from pipeline.models.text_budget import UNBOUNDED, TextBudget
from pipeline.randomness import make_generator
from pipeline.retrieval.config import RetrievalConfig
from pipeline.retrieval.history import list_unique, retrieve_histories
from pipeline.schemas import CASES, RETRIEVED

SPLIT = "train"


@dataclass(frozen=True)
class LeaveOneOutCase:
    """A leave-one-out case in words."""

    detailed_prompt: str  # p_g
    global_prompt: str  # text of E^g
    caption: str  # what is to be said
    reference_text: str  # what the item is called


def build_leave_one_out_cases(
    tables: dict[str, pa.Table],
    *,
    retrieval: RetrievalConfig,
    preference: PreferenceConfig,
    count: int,
    seed: int,
    budget: TextBudget = UNBOUNDED,
) -> list[LeaveOneOutCase]:
    """Build at most `count` cases from `cases`, `items`, `captions`, `keywords` and `embeddings`, no caption twice, in a seeded order."""
    caption_of = map_columns(tables["captions"], "item_id", "caption")
    chosen = choose_cases(tables["cases"], caption_of, count=count, seed=seed)
    cases = build_table(chosen, CASES)
    retrieved, _ = retrieve_histories(cases, tables["embeddings"], retrieval, seed=seed)
    builder = PreferenceBuilder(
        preference,
        items=tables["items"],
        captions=tables["captions"],
        keywords=tables["keywords"],
        retrieved=build_table(retrieved, RETRIEVED),
        budget=budget,
    )
    row_of = {row["case_id"]: row for row in build_preferences(cases, builder)[0]}
    text_of = read_item_texts(tables["items"], tables["captions"])
    found = [(row_of[case["case_id"]], case["reference_id"]) for case in chosen if case["case_id"] in row_of]
    return [LeaveOneOutCase(row["detailed_prompt"], row["global_prompt"], caption_of[item_id], text_of[item_id]) for row, item_id in found]


def choose_cases(cases: pa.Table, caption_of: dict[str, str], *, count: int, seed: int) -> list[dict[str, Any]]:
    """Choose (case, history item) pairs of the training users at random and turn each into a case without a truth."""
    pairs = [(case, item_id) for case in cases.to_pylist() if case["split"] == SPLIT for item_id in list_unique(case["history"])]
    chosen: dict[str, dict[str, Any]] = {}
    for index in torch.randperm(len(pairs), generator=make_generator(seed, "rehearsal")).tolist():
        case, item_id = pairs[index]
        others = [other for other in case["history"] if other != item_id]
        if others and item_id in caption_of and len(chosen) < count:
            changes = {"case_id": f"{case['case_id']}/{item_id}", "history": others, "reference_id": item_id, "truth_id": None}
            chosen.setdefault(caption_of[item_id], {**case, **changes})
    return list(chosen.values())
