"""What the CLIP image tower is asked of each kind of picture, stickers and artists' drawings: questions and the texts to choose from.

Which pair (any paraphrase of the whole caption), which thing (its name alone), which look (the rest of the caption alone: a sticker's style,
what is seen in an artist's drawing). The candidates are those of the same kind: a classic sticker of a hedgehog is also a
brown hedgehog with a dark outline, so that either text would be right.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from embedded.artist_drawings import ArtistDrawings
from embedded.stickers import Stickers, number_pairs
from embedded.texts import (
    TEXT_WIDTH,
    encode_pooled,
    list_drawn_name_texts,
    list_look_texts,
    list_name_texts,
    list_pair_texts,
    list_style_texts,
    list_thing_texts,
)
from embedded.visible_words import Words


@dataclass(frozen=True)
class TextBank:
    """Pooled MiniLM features of all texts: (paraphrase, text, 384); `allowed` marks the pairs that may be candidates in training."""

    pairs: Tensor
    allowed: Tensor
    names: Tensor
    looks: Tensor


@dataclass(frozen=True)
class Questions:
    """One kind: uint8 `images` (picture, 3, 64, 64) and `answers` (picture, 3), the numbers of each one's pair, name and look in the bank."""

    images: Tensor
    answers: Tensor
    held_out: Tensor  # bool, (picture,)
    pool: Tensor  # numbers of the pictures to learn from, some of them several times
    bank: TextBank
    mirrored: bool  # half of the pictures in training


def encode(grid: list[list[str]]) -> Tensor:
    """Encode the paraphrases of each row: (paraphrase, row, 384)."""
    texts = [text for paraphrases in grid for text in paraphrases]
    return encode_pooled(texts).view(len(grid), len(grid[0]), TEXT_WIDTH).transpose(0, 1).contiguous()


def ask_of_stickers(stickers: Stickers, *, copies_on_white: int) -> Questions:
    """Number pairs as concept by style: every sticker has a text of its own."""
    held_out, pairs = stickers.held_out.flatten(), stickers.list_pairs(held_out=False)
    concepts, styles = torch.meshgrid(*(torch.arange(count) for count in stickers.held_out.shape), indexing="ij")
    bank = TextBank(
        pairs=encode([list_pair_texts(name, style) for name in stickers.names for style in stickers.looks]),
        allowed=~held_out,
        names=encode([list_name_texts(name) for name in stickers.names]),
        looks=encode([list_style_texts(style) for style in stickers.looks]),
    )
    answers = torch.stack([torch.arange(len(held_out)), concepts.flatten(), styles.flatten()], dim=1)
    pool = torch.nonzero(~held_out).flatten()[number_pairs(pairs, copies_on_white=copies_on_white)]
    return Questions(stickers.images.flatten(0, 1), answers, held_out, pool, bank, mirrored=False)


def ask_of_drawings(drawings: ArtistDrawings, words: list[list[Words]]) -> Questions:
    """Number texts as they first occur: drawings of a thing in which the same is seen share theirs."""
    held_out = drawings.held_out.flatten()
    captions = [(name, seen) for name, row in zip(drawings.names, words, strict=True) for seen in row]
    pairs, looks = list(dict.fromkeys(captions)), list_looks(words)
    trained = {caption for caption, held in zip(captions, held_out.tolist(), strict=True) if not held}
    bank = TextBank(
        pairs=encode([list_thing_texts(*pair) for pair in pairs]),
        allowed=torch.tensor([pair in trained for pair in pairs]),
        names=encode([list_drawn_name_texts(name) for name in drawings.names]),
        looks=encode([list_look_texts(look) for look in looks]),
    )
    pair_numbers, look_numbers = ({value: number for number, value in enumerate(values)} for values in (pairs, looks))
    things = torch.arange(len(drawings.names)).repeat_interleave(len(drawings.looks)).tolist()
    rows = [(pair_numbers[caption], thing, look_numbers[caption[1]]) for caption, thing in zip(captions, things, strict=True)]
    pool = torch.nonzero(~held_out).flatten()
    return Questions(drawings.images.flatten(0, 1), torch.tensor(rows), held_out, pool, bank, mirrored=True)


def list_looks(words: list[list[Words]]) -> list[Words]:
    """List all that is seen in the drawings, as it first occurs."""
    return list(dict.fromkeys(seen for row in words for seen in row))
