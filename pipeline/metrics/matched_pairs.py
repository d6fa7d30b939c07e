"""Matched pairs: two users whose words are the same and whose liked artists differ. Whose image is whose?

Not in the paper. Of the two images that a method draws for a pair, and the two truths, the closer assignment is taken. A method that reads words
alone draws the same image twice, so that both assignments are equally close: it scores exactly one half, whatever it draws.
Shapes: P pairs; the first 2 are the users' images, the second 2 their truths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def find_matched_pairs(cases: Iterable[Mapping[str, Any]], text_of: Mapping[str, str], split: str) -> list[tuple[str, str]]:
    """Return the case ids of a split's cases with the same reference and the same texts in the same order but different truths, in case_id order.

    An item without a text is like no other.
    """
    alike: dict[tuple[str, tuple[str, ...]], list[Mapping[str, Any]]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case["case_id"]):
        if case["split"] == split and case["truth_id"]:
            alike[case["reference_id"], tuple(text_of.get(item_id) or f"\0{item_id}" for item_id in case["history"])].append(case)
    return [
        (first["case_id"], second["case_id"])
        for first, second in (group for group in alike.values() if len(group) == 2)
        if first["truth_id"] != second["truth_id"]
    ]


def compute_pair_choice(distance_P22: np.ndarray) -> np.ndarray:
    """Return 1 for a pair whose images are together closer to their own truths than to the swapped ones, 0 if further, 0.5 if as close -> (P,)."""
    own_P = distance_P22[:, 0, 0] + distance_P22[:, 1, 1]
    swapped_P = distance_P22[:, 0, 1] + distance_P22[:, 1, 0]
    return (1 + np.sign(swapped_P - own_P)) / 2
