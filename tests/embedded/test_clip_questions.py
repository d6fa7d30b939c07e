"""What the image tower is asked of each kind. Run: python -m pytest tests/embedded/test_clip_questions.py"""

from __future__ import annotations

import pytest
import torch

from embedded import clip_questions
from embedded.artist_drawings import ArtistDrawings
from embedded.clip_questions import Questions, TextBank, ask_of_drawings, ask_of_stickers, list_looks
from embedded.stickers import Stickers
from embedded.texts import list_look_texts, list_thing_texts
from embedded.train_clip import ClipConfig, compute_clip_loss, draw_images
from embedded.visible_words import Words
from pipeline.data.artmoji import FAMILIES, Thing
from pipeline.data.openmoji import STYLES, read_concepts

RED, BLUE = Words(("red",), "no", "flat"), Words(("blue", "white"), "a dark", "two-tone")
ENCODED: list[str] = []


@pytest.fixture(autouse=True)
def number_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of features each text has its number among all that were encoded."""
    ENCODED.clear()

    def encode_pooled(texts: list[str]) -> torch.Tensor:
        ENCODED.extend(texts)
        numbers = torch.arange(len(ENCODED) - len(texts), len(ENCODED))
        return numbers[:, None].expand(-1, clip_questions.TEXT_WIDTH).float()

    monkeypatch.setattr(clip_questions, "encode_pooled", encode_pooled)


def read(bank: torch.Tensor, paraphrase: int, row: int) -> str:
    return ENCODED[int(bank[paraphrase, row, 0])]


def make_drawings() -> tuple[ArtistDrawings, list[list[Words]]]:
    """Two things; all drawings of the first look alike but the last family's, which is the only held-out one."""
    things = [Thing("1f34e", "apple", "Food", "fruit"), Thing("1f980", "crab", "Animals", "bug")]
    held_out = torch.zeros(2, len(FAMILIES), dtype=torch.bool)
    held_out[0, -1] = True
    images = torch.arange(2 * len(FAMILIES), dtype=torch.uint8).view(2, len(FAMILIES), 1, 1, 1).expand(-1, -1, 3, 8, 8)
    words = [[RED] * (len(FAMILIES) - 1) + [BLUE], [BLUE] * len(FAMILIES)]
    return ArtistDrawings(things, images.contiguous(), held_out), words


def test_drawings_in_which_the_same_is_seen_share_a_text_and_held_out_texts_are_no_candidates() -> None:
    drawings, words = make_drawings()
    asked = ask_of_drawings(drawings, words)
    assert list_looks(words) == [RED, BLUE]
    for number, (pair, name, look) in enumerate(asked.answers.tolist()):
        thing, family = divmod(number, len(FAMILIES))
        seen, called = words[thing][family], drawings.names[thing]
        assert read(asked.bank.pairs, 0, pair) == list_thing_texts(called, seen)[0]
        assert read(asked.bank.names, 0, name) == called
        assert read(asked.bank.looks, 0, look) == list_look_texts(seen)[0]
    assert asked.bank.allowed.tolist() == [True, False, True]  # a red apple, a blue apple, a blue crab
    assert asked.pool.tolist() == [number for number in range(18) if number != 8]


def test_stickers_are_asked_for_their_own_pair_concept_and_style() -> None:
    concepts = read_concepts(3)
    held_out = torch.zeros(3, len(STYLES), dtype=torch.bool)
    held_out[1, 3] = True
    stickers = Stickers(concepts, torch.zeros(3, len(STYLES), 3, 8, 8, dtype=torch.uint8), held_out)
    asked = ask_of_stickers(stickers, copies_on_white=2)
    pair, name, look = asked.answers[1 * len(STYLES) + 3].tolist()
    assert read(asked.bank.pairs, 2, pair) == f"neon {concepts[1].name}"
    assert read(asked.bank.names, 0, name) == concepts[1].name
    assert read(asked.bank.looks, 0, look) == "neon"
    assert not asked.bank.allowed[pair]
    assert asked.bank.allowed.sum() == 17
    counts = asked.pool.bincount(minlength=18)
    assert counts.tolist() == [0 if number == 9 else 2 if number % 6 < 2 else 1 for number in range(18)]


def test_wordings_of_a_drawing() -> None:
    assert list_thing_texts("crab", BLUE) == [
        "a blue and white crab with a dark outline and two-tone shading",
        "crab, blue and white, dark outline, two-tone shading",
        "a blue and white crab, dark outline, two-tone",
    ]
    assert list_look_texts(Words(("orange",), "no", "flat")) == [
        "orange, no outline, flat shading",
        "an orange drawing with no outline and flat shading",
        "orange, no outline, flat",
    ]


class OneHotTower(torch.nn.Module):
    """Its image vectors are the pixels' first values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(3.0))
        self.text = torch.nn.Module()
        self.text.proj = torch.nn.Identity()
        self.width = width

    def visual(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, : self.width]


def test_images_in_random_colours_are_asked_for_their_thing_only() -> None:
    bank = TextBank(torch.eye(6)[None], torch.tensor([True] * 5 + [False]), torch.eye(6)[None, :4], torch.eye(6)[None, :2])
    images = torch.eye(6)[torch.tensor([0, 1])].view(2, 6, 1, 1)
    tower, config = OneHotTower(6), ClipConfig(recoloured=1)

    def compute(first: list[int], second: list[int]) -> float:
        loss, accuracy = compute_clip_loss(tower, images, torch.tensor([first, second]), bank, torch.Generator(), config)
        assert accuracy == (1.0 if second[0] == 1 else 0.0)
        return loss.item()

    right = compute([0, 0, 0], [1, 1, 1])
    assert compute([4, 0, 1], [1, 1, 1]) == right  # pair and look of the recoloured image are not asked for
    assert compute([0, 3, 0], [1, 1, 1]) > right
    assert compute([0, 0, 0], [2, 1, 1]) > right
    assert compute([0, 0, 0], [1, 1, 0]) > right


def test_batches_hold_pictures_of_the_pool_and_their_answers() -> None:
    images = torch.arange(4, dtype=torch.uint8).mul(60).view(4, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
    answers = torch.arange(4)[:, None].expand(-1, 3)
    kind = Questions(images, answers, torch.zeros(4, dtype=torch.bool), torch.tensor([1, 3]), None, mirrored=True)
    drawn, asked = draw_images(kind, ClipConfig(batch_size=40, recoloured=10), torch.Generator().manual_seed(0))
    assert set(asked[:, 0].tolist()) == {1, 3}
    grey = (drawn[10:].mean(dim=(1, 2, 3)) + 1) * 127.5 / 60  # noise of a few per cent
    assert torch.equal(grey.round().long(), asked[10:, 0])
    assert (drawn[:10].std(dim=1).mean(dim=(1, 2)) > 0.02).all()  # no longer grey
