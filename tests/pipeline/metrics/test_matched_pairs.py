"""Matched pairs and the choice between two images. Run: python -m pytest tests/pipeline/metrics/test_matched_pairs.py"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.metrics.matched_pairs import compute_pair_choice, find_matched_pairs


def make_case(case_id: str, history: list[str], truth_id: str | None, *, reference_id: str = "r", split: str = "test") -> dict[str, Any]:
    return {"case_id": case_id, "split": split, "history": history, "reference_id": reference_id, "truth_id": truth_id}


def test_the_closer_assignment_is_the_choice() -> None:
    distances = [
        [[1, 4], [3, 2]],  # 1 + 2 < 4 + 3: right
        [[4, 1], [2, 3]],  # swapped: wrong
        [[1, 2], [0, 3]],  # 1 + 3 > 2 + 0: one image is right, but the pair is wrong
        [[2, 3], [1, 2]],  # 2 + 2 = 3 + 1: as close
    ]
    assert compute_pair_choice(np.array(distances, dtype=float)).tolist() == [1, 0, 0, 0.5]


def test_the_same_image_twice_is_exactly_a_tie_whatever_it_shows() -> None:
    distance_P12 = np.random.default_rng(0).lognormal(sigma=9, size=(10_000, 1, 2))  # sums that rounding would tell apart if it could
    assert (compute_pair_choice(np.repeat(distance_P12, 2, axis=1)) == 0.5).all()


def test_a_pair_has_the_same_words_in_the_same_order_the_same_reference_and_other_truths() -> None:
    text_of = {"fox-1": "fox", "fox-2": "fox", "owl-1": "owl", "owl-2": "owl"}
    pair = [make_case("b", ["fox-1", "owl-1"], "t1"), make_case("a", ["fox-2", "owl-2"], "t2")]
    others = [
        make_case("c", ["owl-1", "fox-1"], "t2"),  # another order
        make_case("d", ["fox-1", "owl-1"], "t2", reference_id="s"),
        make_case("e", ["fox-1", "owl-1"], "t2", split="train"),
        make_case("f", ["fox-1", "owl-1"], None),
        *(make_case(case_id, ["owl-1"], "t3") for case_id in "gh"),  # the same truth
    ]
    assert find_matched_pairs([*pair, *others], text_of, "test") == [("a", "b")]
