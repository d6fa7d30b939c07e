"""ArtMoji: the same things drawn by real artist teams, with users whose taste has no name.

A (thing, artist family) pair is an item. Its text is the thing's name and its category Unicode's group; no text names a family, and
neither does an item's id: only the picture and the labels tell. A user likes one family in each cell of a partition of the things
(`pipeline/data/cells.py`). A history shows things of the reference's cell (relevant), of another cell of the same category (decoys) and of
cells elsewhere, each by the family that this user likes there, and noise: anything by a family that the user does not like there.

The reference is drawn by one family for everybody, which nobody likes; the truth is the same thing by the family that this user likes in its cell.
A tenth of the pairs is held out: no history holds them, and the truths of the validation and test cases come from them. Another family is held out
altogether: training and validation users neither like nor see it, test users may.

The test users come in matched pairs (`case-00012a`, `case-00012b`): the same texts in the same order, the same reference, and other artists
(noise may coincide). An odd last test user is alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le, MinLen

from pipeline.config import Count, Share, config_dataclass
from pipeline.data.artmoji import FAMILIES, PICTURE_SIZE, Pictures, Thing, is_held_out, read_things
from pipeline.data.cells import CellRule, assign_cells
from pipeline.data.dataset import Dataset, assign_splits, build_interactions, check_shares
from pipeline.data.extra import add_extra_items, place_in_histories
from pipeline.data.items import ItemRows
from pipeline.data.simulated_users import MAX_TRIES, build_case_row, check_looks, make_user_rng
from pipeline.data.stored_images import encode_image, fit_square
from pipeline.metrics.matched_pairs import find_matched_pairs
from pipeline.params import load_params
from pipeline.runtime import progress

Taste = dict[str, str]  # cell -> the family that a user likes there, for the cells that the history shows


@config_dataclass
class ArtMojiConfig:
    """Sizes and protocol of ArtMoji; every field is explained in conf/dataset/artmoji.yaml."""

    name: str
    raw: Annotated[str, MinLen(1)]
    num_users: Annotated[int, Ge(3)]
    num_things: Annotated[int, Ge(4)]
    families: tuple[str, ...]
    reference_family: str
    held_out_family: str | None
    image_size: Annotated[int, Ge(16), Le(PICTURE_SIZE)]  # px
    history_length: Annotated[int, Ge(2)]
    cells: CellRule
    cell_size: Count
    num_merged: Count
    cells_per_user: Count
    relevant: tuple[Count, ...]
    noise: tuple[Share, ...]
    splits: tuple[float, ...]

    def __post_init__(self) -> None:
        check_looks(self.families, FAMILIES, field="families", reference=self.reference_family, reference_field="reference_family")
        if self.held_out_family is not None and self.held_out_family not in self.families:
            raise ValueError(f"held_out_family is {self.held_out_family!r}, but it must be null or one of the families: {', '.join(self.families)}.")
        if self.held_out_family == self.reference_family:
            raise ValueError(f"held_out_family is {self.held_out_family!r}, but that is the reference_family, which every user sees.")
        for field, bounds in (("relevant", self.relevant), ("noise", self.noise)):
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ValueError(f"{field} is {list(bounds)}, but it must be two numbers, the least and the most.")
        if self.relevant[1] + round(self.noise[1] * self.history_length) > self.history_length:
            raise ValueError(
                f"relevant ({self.relevant[1]}) and noise ({self.noise[1]} of history_length) may be more items than "
                f"history_length, {self.history_length}."
            )
        check_shares(self.splits)


@dataclass(frozen=True)
class Catalogue:
    """The things and their cells, and which drawings may be shown, liked and wanted."""

    things: tuple[Thing, ...]
    cell_of: dict[Thing, str]
    config: ArtMojiConfig

    @cached_property
    def shown(self) -> dict[Thing, frozenset[str]]:
        """The families whose drawing of a thing is not held out."""
        return {thing: frozenset(family for family in self.config.families if not is_held_out(thing, family)) for thing in self.things}

    def list_families(self, split: str) -> list[str]:
        """List the families whose drawings the users of a split may see: one is new to the test users."""
        return [family for family in self.config.families if split == "test" or family != self.config.held_out_family]

    def list_liked(self, split: str) -> list[str]:
        """List the families that the users of a split may like."""
        return [family for family in self.list_families(split) if family != self.config.reference_family]

    def list_wanted(self, thing: Thing, split: str) -> list[str]:
        """List the families whose drawing of a thing may be a truth: held-out pairs, for training cases what may be shown."""
        is_trained = split == "train"
        if is_trained and self.config.reference_family not in self.shown[thing]:
            return []
        return [family for family in self.list_liked(split) if (family in self.shown[thing]) == is_trained]


def build_from_params(params: Path, extra: Path, seed: int) -> Dataset:
    """Build ArtMoji as the params' `dataset` block says, with the extra items placed in some histories."""
    config = load_params(params, "dataset", ArtMojiConfig)
    return build_artmoji(config, extra=extra, seed=seed)


def build_artmoji(config: ArtMojiConfig, *, extra: Path, seed: int) -> Dataset:
    """Read the drawings and draw the users; everything depends on the raw folder, the config, the seed and the folder of extra items alone."""
    catalogue = build_catalogue(config, seed=seed)
    items, labels = build_items(catalogue)
    cases = [case for numbers, split in list_users(config) for case in draw_cases(catalogue, numbers, split, seed=seed)]
    cases.sort(key=lambda case: case["case_id"])
    extras, missing = add_extra_items(extra, items, image_size=config.image_size, image_format="png")
    place_in_histories([case for case in cases if case["split"] != "test"] or cases, extras)  # a pair would be none with an item of one's own
    facts = {
        "things": len(catalogue.things),
        "families": len(config.families),
        "cells": len(set(catalogue.cell_of.values())),
        "held_out_pairs": sum(len(config.families) - len(shown) for shown in catalogue.shown.values()),
        "matched_pairs": len(find_matched_pairs(cases, {item_id: item["text"] for item_id, item in items.items()}, "test")),
        "truths_of_the_held_out_family": count_truths(cases, labels, config.held_out_family),
        "extra_items": len(extras),
    }
    return Dataset(items, build_interactions(cases), cases, labels, facts, missing)


def build_catalogue(config: ArtMojiConfig, *, seed: int) -> Catalogue:
    """Choose `num_things` things, which are spread over all subgroups, and assign their cells."""
    things = read_things(Path(config.raw))
    if len(things) < config.num_things:
        raise ValueError(f"num_things is {config.num_things}, but there are only {len(things)} things.")
    chosen = set(sorted(things, key=lambda thing: hashlib.sha256(thing.code_point.encode()).digest())[: config.num_things])
    kept = tuple(thing for thing in things if thing in chosen)
    cell_of = assign_cells(kept, config.cells, cell_size=config.cell_size, num_merged=config.num_merged, seed=seed)
    return Catalogue(kept, cell_of, config)


def build_item_id(thing: Thing, family: str) -> str:
    """Return the id of a pair's item, e.g. `1f98a-3fa09c`, which does not tell the family."""
    return f"{thing.code_point}-{hashlib.sha256(f'{thing.code_point}/{family}'.encode()).hexdigest()[:6]}"


def build_items(catalogue: Catalogue) -> tuple[ItemRows, list[dict[str, Any]]]:
    """Store every pair's picture on white; the item's text is the thing's name alone."""
    config = catalogue.config
    pictures = Pictures(Path(config.raw))
    items, labels = ItemRows(), []
    for thing in progress(catalogue.things, label="reading things", total=len(catalogue.things)):
        for family in config.families:
            item_id = build_item_id(thing, family)
            image = encode_image(fit_square(pictures.draw(thing, family), config.image_size), "png")
            items.add(item_id, image, text=thing.name, category=thing.category)
            labels.append({"item_id": item_id, "style": family, "concept": thing.name})
    return items, labels


def list_users(config: ArtMojiConfig) -> Iterator[tuple[list[int], str]]:
    """Yield the numbers of the users that are drawn together and their split: test users two by two, the others alone."""
    splits = assign_splits(range(config.num_users), config.splits)
    yield from (([number], split) for number, split in enumerate(splits) if split != "test")
    tests = [number for number, split in enumerate(splits) if split == "test"]
    yield from ((tests[place : place + 2], "test") for place in range(0, len(tests), 2))


def draw_cases(catalogue: Catalogue, numbers: Sequence[int], split: str, *, seed: int) -> list[dict[str, Any]]:
    """Draw the cases of users who share everything but the artists: a reference, one history in several hands, a truth each."""
    config = catalogue.config
    rng = make_user_rng("artmoji", seed, numbers[0])
    low, high = config.relevant
    num_relevant = int(rng.integers(low, high + 1))
    num_noise = int(rng.integers(round(config.noise[0] * config.history_length), round(config.noise[1] * config.history_length) + 1))
    for _ in range(MAX_TRIES):
        thing = catalogue.things[int(rng.integers(len(catalogue.things)))]
        wanted = catalogue.list_wanted(thing, split)
        if len(wanted) < len(numbers):
            continue
        families = [str(family) for family in rng.permutation(wanted)[: len(numbers)]]
        cells = draw_cells(catalogue, thing, rng)
        tastes = [draw_taste(cells, family, catalogue.list_liked(split), rng) for family in families]
        things = draw_things(catalogue, thing, tastes, num_relevant=num_relevant, num_noise=num_noise, rng=rng)
        histories = draw_histories(catalogue, things, tastes, split, num_noise=num_noise, rng=rng) if things else None
        if histories:
            names = [f"{numbers[0]:05d}{letter}" for letter in "ab"] if len(numbers) > 1 else [f"{numbers[0]:05d}"]
            reference_id = build_item_id(thing, config.reference_family)
            return [
                build_case_row(name, split, history, reference_id, build_item_id(thing, family))
                for name, history, family in zip(names, histories, families, strict=True)
            ]
    raise ValueError(
        f"ArtMoji cannot draw user {numbers[0]}: no cell has a {'shown' if split == 'train' else 'held-out'} truth and {num_relevant} relevant items "
        f"beside the others of a history; raise dataset.num_things ({config.num_things}) or dataset.cell_size ({config.cell_size}), name more of "
        f"dataset.families, or lower dataset.relevant ({list(config.relevant)}) or dataset.history_length ({config.history_length})."
    )


def draw_cells(catalogue: Catalogue, truth: Thing, rng: np.random.Generator) -> list[str]:
    """Draw the cells that a history shows: the truth's, one with other things of its category, if there is one, and others."""
    own = catalogue.cell_of[truth]
    others = [str(cell) for cell in rng.permutation(list(dict.fromkeys(catalogue.cell_of.values()))) if cell != own]
    near = {cell for thing, cell in catalogue.cell_of.items() if thing.category == truth.category}
    decoy = next((cell for cell in others if cell in near), None)
    others.sort(key=lambda cell: (cell != decoy, cell in near))  # stable: what is left stays in random order
    return [own, *others][: catalogue.config.cells_per_user]


def draw_taste(cells: Sequence[str], family: str, likeable: Sequence[str], rng: np.random.Generator) -> Taste:
    """Give the first cell the family, and the others different ones, as long as there are enough."""
    order = [family, *(str(other) for other in rng.permutation(likeable) if other != family)]
    return {cell: order[place % len(order)] for place, cell in enumerate(cells)}


def draw_things(
    catalogue: Catalogue, truth: Thing, tastes: Sequence[Taste], *, num_relevant: int, num_noise: int, rng: np.random.Generator
) -> list[Thing] | None:
    """Draw what a history shows, the noise first, then each cell's things; None if there are too few. Of one cell all but the noise is relevant."""
    length, cells = catalogue.config.history_length, list(tastes[0])
    order = [catalogue.things[place] for place in rng.permutation(len(catalogue.things)) if catalogue.things[place] != truth]
    rest = length - num_noise - num_relevant
    num_others = len(cells) - 1
    sizes = [num_relevant, *((rest + place) // num_others for place in reversed(range(num_others)))] if num_others else [length - num_noise]
    things = order[:num_noise]
    for cell, size in zip(cells, sizes, strict=True):
        families = {taste[cell] for taste in tastes}
        pool = [thing for thing in order[num_noise:] if catalogue.cell_of[thing] == cell and families <= catalogue.shown[thing]]
        if len(pool) < size:
            return None
        things += pool[:size]
    return things


def draw_histories(
    catalogue: Catalogue, things: Sequence[Thing], tastes: Sequence[Taste], split: str, *, num_noise: int, rng: np.random.Generator
) -> list[list[str]] | None:
    """Draw each user's history of the same things in the same order, the first `num_noise` by families that the user does not like there.

    None if there is no such family.
    """
    places = rng.permutation(len(things))
    histories = []
    for taste in tastes:
        item_ids = []
        for number, thing in enumerate(things):
            liked = taste.get(catalogue.cell_of[thing])
            unliked = [family for family in catalogue.list_families(split) if family in catalogue.shown[thing] and family != liked]
            if number < num_noise and not unliked:
                return None
            item_ids.append(build_item_id(thing, unliked[int(rng.integers(len(unliked)))] if number < num_noise else liked))
        histories.append([item_ids[place] for place in places])
    return histories


def count_truths(cases: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]], family: str | None) -> int:
    """Count the test cases whose truth is by a family."""
    family_of = {label["item_id"]: label["style"] for label in labels}
    return sum(case["split"] == "test" and family_of[case["truth_id"]] == family for case in cases)
