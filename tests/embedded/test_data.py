"""Wordings, conditions and the rule that no recipe sees a held-out pair. Run: python -m pytest tests/embedded/test_data.py"""

from __future__ import annotations

import random

import torch

from embedded.prompts import ConditionBank, draw_conditions, mix_rows, write_keyword_text
from embedded.stickers import Stickers, choose_article, describe_pair
from embedded.train_captioner import read_concept
from embedded.train_clip import recolour_images
from pipeline.data.openmoji import STYLES, is_held_out, read_concepts


def make_stickers(count: int) -> Stickers:
    concepts = read_concepts(count)
    held = torch.tensor([[is_held_out(concept.hexcode, style) for style in STYLES] for concept in concepts])
    return Stickers(concepts, torch.zeros((count, len(STYLES), 3, 2, 2), dtype=torch.uint8), held)


def test_training_and_held_out_pairs_share_nothing_and_are_all_pairs() -> None:
    stickers = make_stickers(40)
    seen = {tuple(row) for row in stickers.list_pairs(held_out=False).tolist()}
    held = {tuple(row) for row in stickers.list_pairs(held_out=True).tolist()}
    assert not seen & held
    assert len(seen) + len(held) == 40 * len(STYLES)
    assert all(is_held_out(stickers.concepts[concept].hexcode, STYLES[style]) for concept, style in held)


def test_captions_have_the_right_articles_and_can_be_read_back() -> None:
    assert describe_pair("owl", "outline") == "an outline sticker of an owl"
    assert describe_pair("fire engine", "neon") == "a neon sticker of a fire engine"
    assert [choose_article(word) for word in ("unicorn", "ufo", "umbrella")] == ["a", "a", "an"]
    assert read_concept(describe_pair("fire engine", "neon")) == "fire engine"


def test_keyword_texts_start_with_the_concept_and_name_the_right_style_before_any_other() -> None:
    concepts = read_concepts(40)
    peers: dict[str, list[str]] = {}
    for concept in concepts:
        peers.setdefault(concept.group, []).append(concept.name)
    rng = random.Random(0)
    for _ in range(200):
        concept, style = rng.choice(concepts), rng.choice(STYLES)
        words = write_keyword_text(concept, style, peers, rng).split(", ")
        assert words[0] == concept.name
        assert next(word for word in words if word in STYLES) == style
        assert words.count(concept.name) == 1


def test_conditions_are_one_to_three_blocks_and_some_rows_are_empty() -> None:
    states = torch.randn(6, 5, 32, 384).half()
    names, styles, lists = (torch.randn(*shape, 32, 384).half() for shape in ((4, 3), (6, 3), (6,)))
    bank = ConditionBank(states, lists, torch.zeros(6, 32, dtype=torch.bool), names, styles, torch.full((32, 384), 7.0).half())
    generator = torch.Generator().manual_seed(0)
    lengths, empty = set(), 0
    for _ in range(30):
        chosen = torch.randint(6, (8,), generator=generator)
        condition = draw_conditions(bank, chosen, torch.stack([chosen % 4, chosen], dim=1), generator)
        assert condition.shape[0] == 8
        lengths.add(condition.shape[1])
        empty += (condition == 7.0).all(dim=(1, 2)).sum().item()
    assert lengths == {32, 64, 96}
    assert 0 < empty < 60


def test_mixed_rows_stay_within_the_range_of_the_rows_they_mix() -> None:
    block = torch.randn(3, 32, 8)
    mixed = mix_rows(block, torch.Generator().manual_seed(1))
    assert (mixed <= block.amax(dim=1, keepdim=True) + 1e-5).all()
    assert (mixed >= block.amin(dim=1, keepdim=True) - 1e-5).all()


def test_recolouring_keeps_what_is_where() -> None:
    flat = torch.zeros(6, 3, 8, 8)
    flat[:, :, :4] = 0.5
    changed = recolour_images(flat, torch.Generator().manual_seed(0))
    assert changed.abs().max() <= 1
    assert (changed[:, :, :4] == changed[:, :, :1, :1]).all()
    assert (changed[:, :, 4:] == changed[:, :, -1:, -1:]).all()
    assert len(changed[:, 0, 0, 0].unique()) == 6
