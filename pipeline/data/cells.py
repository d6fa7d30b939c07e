"""Cells of taste: a partition of the things, in each of which a user likes one artist family.

The catalogue shows a thing's category. Cells that are finer make things of the same category, but another cell, decoys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from pipeline.data.artmoji import Thing

CellRule = Literal["subgroups", "merged", "category", "one"]


def assign_cells(things: Sequence[Thing], rule: CellRule, *, cell_size: int, num_merged: int, seed: int) -> dict[Thing, str]:
    """Return every thing's cell, named after what is in it; `seed` decides which subgroups `merged` puts together."""
    if rule == "category":
        return {thing: thing.category for thing in things}
    sizes = Counter(thing.subgroup for thing in things)  # in Unicode's order
    if rule == "one":
        parts = [list(sizes)]
    elif rule == "merged":
        parts = merge_at_random(sizes, num_merged, np.random.default_rng(seed))
    else:
        categories = {thing.subgroup: thing.category for thing in things}
        parts = [
            part
            for category in dict.fromkeys(categories.values())
            for part in merge_neighbours({name: size for name, size in sizes.items() if categories[name] == category}, cell_size)
        ]
    return {thing: " + ".join(part) for part in parts for thing in things if thing.subgroup in part}


def merge_neighbours(sizes: Mapping[str, int], cell_size: int) -> list[list[str]]:
    """Join subgroups in their order until a cell has `cell_size` things; what is left over at the end joins the last cell."""
    cells: list[list[str]] = [[]]
    for name in sizes:
        if sum(sizes[member] for member in cells[-1]) >= cell_size:
            cells.append([])
        cells[-1].append(name)
    if len(cells) > 1 and sum(sizes[member] for member in cells[-1]) < cell_size:
        cells[-2:] = [cells[-2] + cells[-1]]
    return cells


def merge_at_random(sizes: Mapping[str, int], num_cells: int, rng: np.random.Generator) -> list[list[str]]:
    """Deal subgroups in random order, each to the cell that has the fewest things."""
    cells: list[list[str]] = [[] for _ in range(min(num_cells, len(sizes)))]
    for name in rng.permutation(list(sizes)):
        min(cells, key=lambda cell: sum(sizes[member] for member in cell)).append(str(name))
    return cells
