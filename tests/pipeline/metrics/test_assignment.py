"""The permutation test of who got whose image. Run: python -m pytest tests/pipeline/metrics/test_assignment.py"""

from __future__ import annotations

import itertools
import random

import pytest

from pipeline.metrics.assignment import compute_assignment_p


def test_right_images_have_the_smallest_p_and_shuffled_ones_none_to_speak_of() -> None:
    wanted = [f"s{n % 8}" for n in range(200)]
    assert compute_assignment_p(wanted, wanted, seed=0, num_permutations=999) == 1 / 1000
    shuffled = random.Random(1).sample(wanted, len(wanted))
    assert compute_assignment_p(shuffled, wanted, seed=0, num_permutations=999) > 0.05


def test_of_few_users_all_assignments_are_looked_at() -> None:
    drawn, wanted = ["a", "b", "b", "c"], ["a", "b", "c", "b"]
    counts = [sum(one == other for one, other in zip(order, wanted, strict=True)) for order in itertools.permutations(drawn)]
    own = sum(one == other for one, other in zip(drawn, wanted, strict=True))
    assert compute_assignment_p(drawn, wanted, seed=0) == pytest.approx(sum(count >= own for count in counts) / 24)


def test_the_same_look_for_everybody_is_right_as_often_under_every_assignment() -> None:
    assert compute_assignment_p(["a"] * 6, ["a", "a", "a", "a", "b", "c"], seed=0) == 1.0
    assert compute_assignment_p(["a"] * 60, ["a"] * 50 + ["b"] * 10, seed=0, num_permutations=99) == 1.0


def test_one_image_has_no_other_user_to_go_to() -> None:
    assert compute_assignment_p(["a"], ["a"], seed=0) is None
    assert compute_assignment_p([], [], seed=0) is None
