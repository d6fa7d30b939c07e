"""Partitions of the things into cells of taste. Run: python -m pytest tests/pipeline/data/test_cells.py"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.artmoji import Thing, read_things
from pipeline.data.cells import assign_cells, merge_at_random, merge_neighbours
from tests.configs import ARTMOJI_FULL as CONFIG

SIZES = {"mammal": 9, "bird": 2, "frog": 1, "fish": 6, "flower": 2}


def assign(things: list[Thing], rule: str, *, seed: int = 0) -> dict[Thing, str]:
    return assign_cells(things, rule, cell_size=CONFIG.cell_size, num_merged=CONFIG.num_merged, seed=seed)


@pytest.fixture(scope="module")
def things() -> list[Thing]:
    return read_things(Path(CONFIG.raw))


@pytest.mark.parametrize(
    ("cell_size", "expected"),
    [
        (1, [["mammal"], ["bird"], ["frog"], ["fish"], ["flower"]]),
        (3, [["mammal"], ["bird", "frog"], ["fish", "flower"]]),
        (7, [["mammal"], ["bird", "frog", "fish", "flower"]]),
        (10, [["mammal", "bird", "frog", "fish", "flower"]]),  # mammal and bird are 11, but the 9 behind them are too few
        (99, [["mammal", "bird", "frog", "fish", "flower"]]),
    ],
)
def test_neighbours_are_joined_until_they_are_enough(cell_size: int, expected: list[list[str]]) -> None:
    assert merge_neighbours(SIZES, cell_size) == expected


def test_random_merges_take_every_subgroup_once_and_balance_the_cells() -> None:
    cells = merge_at_random(SIZES, 2, np.random.default_rng(0))
    assert sorted(name for cell in cells for name in cell) == sorted(SIZES)
    assert sorted(sum(SIZES[name] for name in cell) for cell in cells) in ([9, 11], [8, 12])


def test_the_default_cells_are_finer_than_the_categories_and_stay_inside_of_them(things: list[Thing]) -> None:
    cells = assign(things, "subgroups")
    sizes = Counter(cells.values())
    assert (len(sizes), min(sizes.values()), max(sizes.values())) == (22, 12, 37)
    category_of = {}
    for thing, cell in cells.items():
        assert category_of.setdefault(cell, thing.category) == thing.category
    assert min(Counter(category_of.values()).values()) >= 3


def test_the_other_rules(things: list[Thing]) -> None:
    assert all(cell == thing.category for thing, cell in assign(things, "category").items())
    assert len(set(assign(things, "one").values())) == 1
    merged = assign(things, "merged")
    assert len(set(merged.values())) == 5
    assert all(len({cell for thing, cell in merged.items() if thing.subgroup == subgroup}) == 1 for subgroup in {t.subgroup for t in things})
    assert merged == assign(things, "merged") != assign(things, "merged", seed=1)
    assert {len(set(assign(things, rule))) for rule in ("subgroups", "merged", "category", "one")} == {443}
