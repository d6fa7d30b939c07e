"""What the drawing model is conditioned on in training. Run: python -m pytest tests/embedded/test_prompts.py"""

from __future__ import annotations

import random

import torch

from embedded import prompts
from embedded.examples import NUM_TEXTS, Examples, write_keywords, write_visible_texts
from embedded.prompts import LookBank, TextBank, draw_look_items, draw_words
from embedded.texts import MAX_TOKENS, TEXT_WIDTH
from embedded.visible_words import Words
from pipeline.data.openmoji import STYLES, read_concepts

PAIR, NAME, STYLE, EMPTY = 100.0, 200.0, 300.0, 400.0
NUM_STICKERS, NUM = 12, 30


def build_examples() -> Examples:
    """Build twelve stickers (four concepts in three styles), then eighteen drawings (six things by three families)."""
    looks = torch.tensor([number % 3 if number < NUM_STICKERS else len(STYLES) + number % 3 for number in range(NUM)])
    names = [f"thing {number}" for number in range(10)]
    return Examples(torch.zeros(NUM, 3, 2, 2, dtype=torch.uint8), looks, torch.arange(NUM) // 3, names, ["group"] * 10, NUM_STICKERS)


def build_bank() -> TextBank:
    """Build a bank whose states say where they come from: source, then the number of the example, the thing or the style."""

    def fill(source: float, rows: int, texts: int) -> torch.Tensor:
        return (source + torch.arange(rows).view(rows, 1, 1, 1)).expand(rows, texts, MAX_TOKENS, TEXT_WIDTH).half()

    empty = torch.full((MAX_TOKENS, TEXT_WIDTH), EMPTY).half()
    return TextBank(fill(PAIR, NUM, NUM_TEXTS), fill(NAME, 10, 3), fill(STYLE, len(STYLES), 3), empty)


def test_every_block_speaks_of_the_rows_own_pair() -> None:
    bank, examples, generator = build_bank(), build_examples(), torch.Generator().manual_seed(0)
    kinds = set()
    for _ in range(200):
        chosen = torch.randint(NUM, (5,), generator=generator)
        blocks = draw_words(bank, examples, chosen, generator, with_look=False).view(5, -1, MAX_TOKENS, TEXT_WIDTH)
        assert blocks.shape[1] in prompts.BLOCK_COUNTS
        for row, values in zip(chosen.tolist(), blocks[:, :, 0, 0].tolist(), strict=True):
            is_sticker = row < NUM_STICKERS
            own = {PAIR + row, EMPTY} | ({NAME + examples.things[row].item(), STYLE + examples.looks[row].item()} if is_sticker else set())
            assert set(values) <= own
            assert len(set(values)) == 1, "a row's blocks are wordings of one kind"
            kinds.add((is_sticker, values[0] // 100))
    assert kinds == {(True, 1), (True, 2), (True, 3), (True, 4), (False, 1), (False, 4)}


def test_with_a_look_more_stickers_leave_their_style_to_it() -> None:
    bank, examples = build_bank(), build_examples()
    chosen = torch.arange(NUM_STICKERS).repeat(100)
    shares = []
    for with_look in (False, True):
        states = draw_words(bank, examples, chosen, torch.Generator().manual_seed(1), with_look=with_look)
        shares.append(((states[:, 0, 0] >= NAME) & (states[:, 0, 0] < STYLE)).float().mean().item())
    assert abs(shares[0] - prompts.FREE_SHARE) < 0.02
    assert abs(shares[1] - prompts.FREE_SHARE_LOOK) < 0.04


def test_a_look_is_shown_by_pictures_of_other_things_mostly_by_the_same_hand() -> None:
    examples = build_examples()
    members = [torch.nonzero(examples.looks == look)[:, 0] for look in range(len(STYLES) + 3)]
    bank = LookBank(torch.zeros(NUM, 4), torch.zeros(NUM, 4), members)
    chosen = torch.arange(NUM).repeat(60)
    numbers, weights = draw_look_items(bank, examples, chosen, torch.Generator().manual_seed(2))
    shown = weights > 0
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(chosen)))
    assert set(shown.sum(dim=1).tolist()) == set(range(2, prompts.MAX_ITEMS + 1))
    same_kind = (numbers < NUM_STICKERS) == (chosen < NUM_STICKERS)[:, None]
    assert same_kind[shown].all()
    same_hand = examples.looks[numbers] == examples.looks[chosen][:, None]
    assert (examples.things[numbers] != examples.things[chosen][:, None])[shown & same_hand & (numbers != chosen[:, None])].all()
    wrong = (~same_hand & shown).sum(dim=1) / shown.sum(dim=1)
    assert wrong.max() <= prompts.MAX_WRONG
    assert 0.4 < (wrong == 0).float().mean() < 0.9


def test_keyword_texts_start_with_the_concept_and_name_the_right_style_before_any_other() -> None:
    concepts = read_concepts(40)
    peers: dict[str, list[str]] = {}
    for concept in concepts:
        peers.setdefault(concept.group, []).append(concept.name)
    rng = random.Random(0)
    for _ in range(200):
        concept, style = rng.choice(concepts), rng.choice(STYLES)
        words = write_keywords(concept.name, concept.group, style, peers, rng).split(", ")
        assert words[0] == concept.name
        assert next(word for word in words if word in STYLES) == style
        assert words.count(concept.name) == 1


def test_texts_of_a_drawing_say_what_is_seen_or_the_name_alone() -> None:
    texts = write_visible_texts("owl", Words(("brown", "grey"), "a dark", "flat"), random.Random(0))
    assert len(texts) == NUM_TEXTS
    assert texts[:2] == ["a brown and grey owl with a dark outline and flat shading", "a brown and grey owl"]
    assert set(texts[2].split(", ")) <= {"owl", "brown", "grey", "flat shading", "dark outline"}
    assert texts[3:] == ["owl", "an owl", "a sticker of an owl", "owl"]
