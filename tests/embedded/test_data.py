"""Wordings, conditions and the rule that no recipe sees a held-out pair. Run: python -m pytest tests/embedded/test_data.py"""

from __future__ import annotations

from pathlib import Path

import torch

from embedded.stickers import Stickers, choose_article, describe_pair, find_twins
from embedded.train_captioner import read_concept
from embedded.train_clip import recolour_images
from pipeline.data import artmoji
from pipeline.data.artmoji import read_things
from pipeline.data.openmoji import STYLES, is_held_out, read_concepts


def make_stickers(count: int) -> Stickers:
    concepts = read_concepts(count)
    held = torch.tensor([[is_held_out(concept.hexcode, style) for style in STYLES] for concept in concepts])
    return Stickers(concepts, torch.zeros((count, len(STYLES), 3, 2, 2), dtype=torch.uint8), held)


def test_training_and_held_out_pairs_share_nothing_and_are_all_pairs_but_twins() -> None:
    stickers = make_stickers(40)
    seen = {tuple(row) for row in stickers.list_pairs(held_out=False).tolist()}
    held = {tuple(row) for row in stickers.list_pairs(held_out=True).tolist()}
    assert not seen & held
    twins = {tuple(row) for row in find_twins(stickers.concepts).nonzero().tolist()}
    assert {style for _, style in twins} == {STYLES.index("classic")}
    assert not twins & (seen | held)
    assert len(seen) + len(held) + len(twins) == 40 * len(STYLES)
    assert all(is_held_out(stickers.concepts[concept].hexcode, STYLES[style]) for concept, style in held)


def test_a_twin_shows_a_thing_whose_drawing_by_the_same_artists_is_held_out() -> None:
    concepts = read_concepts()
    things = {thing.code_point: thing for thing in read_things(Path("data/raw/artmoji"))}
    twins = [concepts[row] for row in find_twins(concepts).any(dim=1).nonzero()[:, 0].tolist()]
    assert len(twins) > 20
    assert all(artmoji.is_held_out(things[concept.hexcode.lower()], "openmoji") for concept in twins)


def test_captions_have_the_right_articles_and_can_be_read_back() -> None:
    assert describe_pair("owl", "outline") == "an outline sticker of an owl"
    assert describe_pair("fire engine", "neon") == "a neon sticker of a fire engine"
    assert [choose_article(word) for word in ("unicorn", "ufo", "umbrella")] == ["a", "a", "an"]
    assert read_concept(describe_pair("fire engine", "neon")) == "fire engine"


def test_recolouring_keeps_what_is_where() -> None:
    flat = torch.zeros(6, 3, 8, 8)
    flat[:, :, :4] = 0.5
    changed = recolour_images(flat, torch.Generator().manual_seed(0))
    assert changed.abs().max() <= 1
    assert (changed[:, :, :4] == changed[:, :, :1, :1]).all()
    assert (changed[:, :, 4:] == changed[:, :, -1:, -1:]).all()
    assert len(changed[:, 0, 0, 0].unique()) == 6
