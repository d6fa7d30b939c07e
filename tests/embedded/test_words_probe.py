"""A probe finds what words tell, and nothing where they tell nothing. Run: python -m pytest tests/embedded/test_words_probe.py"""

from __future__ import annotations

import random

import pytest
import torch

from embedded import words_probe
from embedded.artist_drawings import ArtistDrawings, load_artist_drawings
from embedded.card import CARD_PATH
from embedded.visible_words import COLOURS, OUTLINES, SHADINGS, Words
from pipeline.data.artmoji import FAMILIES, Thing


def make_drawings(count: int) -> ArtistDrawings:
    """Things without drawings; a tenth of the pairs, ten of each family in a hundred things, is held out."""
    things = [Thing(f"{i:x}", f"thing {i}", "Objects", "tool") for i in range(count)]
    held_out = (torch.arange(count)[:, None] + torch.arange(len(FAMILIES))) % 10 == 0
    return ArtistDrawings(things, torch.zeros(count, len(FAMILIES), 3, 1, 1, dtype=torch.uint8), held_out)


def draw_words(rng: random.Random) -> Words:
    return Words(tuple(rng.sample(COLOURS, rng.randint(1, 2))), rng.choice(OUTLINES), rng.choice(SHADINGS))


def test_families_with_words_of_their_own_are_told_apart() -> None:
    words = [[Words((COLOURS[family],), OUTLINES[0], SHADINGS[0]) for family in range(len(FAMILIES))] for _ in range(100)]
    found = words_probe.measure_probe(make_drawings(100), words)
    assert {key: (values.float().mean().item(), len(values)) for key, values in found.items()} == {
        "artist_from_words": (1.0, 90),
        "artist_from_words_of_five": (1.0, 18),
    }


def test_words_by_chance_tell_nothing() -> None:
    rng = random.Random(0)
    words = [[draw_words(rng) for _ in FAMILIES] for _ in range(400)]
    right = words_probe.measure_probe(make_drawings(400), words)["artist_from_words"].float()
    assert abs(right.mean() - 1 / 9) < 3 * (1 / 9 * 8 / 9 / len(right)) ** 0.5  # three standard errors


def test_one_family_that_stands_out_is_the_only_one_that_is_told() -> None:
    rng = random.Random(0)
    words = [[Words(("red",), "a dark" if family == 3 else "no", rng.choice(SHADINGS)) for family in range(len(FAMILIES))] for _ in range(200)]
    drawings = make_drawings(200)
    right = words_probe.measure_probe(drawings, words)["artist_from_words"]
    families = drawings.list_pairs(held_out=True)[:, 1]
    assert right[families == 3].all()
    assert right[families != 3].float().mean() < 0.2


def test_each_slot_of_the_words_is_one_of_the_inputs() -> None:
    rows = words_probe.encode_words([Words(("red",), "no", "flat"), Words(("red", "white"), "a dark", "flat")])
    assert rows.sum(dim=1).tolist() == [4, 5]  # with the intercept; no second colour is no input
    assert rows[0, 0] == rows[1, 0] == 1


@pytest.mark.slow
def test_the_published_figures_are_those_that_the_command_prints() -> None:
    drawings = load_artist_drawings()
    card = CARD_PATH.read_text(encoding="utf-8")
    for key, right in words_probe.measure_probe(drawings, words_probe.describe_all(drawings)).items():
        figure = words_probe.summarise(right.float())
        low, high = figure["interval"]
        assert f"| {key} | {figure['value']} | {low} to {high} | {figure['n']} |" in card
