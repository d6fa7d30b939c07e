"""What the captioner says of each kind of picture, as tokens, and which of them may be asked of a picture in random colours.

A caption's first words say the look ("a neon sticker of ...", "a brown and white ..."), then comes the name, then whatever else is seen. Of a
picture in random colours nothing is true but the name: it is given any words of looks in place of its own, and asked for what follows them up to
the word that ends the name.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from embedded.captioner_model import PAD
from embedded.stickers import describe_pair
from embedded.visible_words import COLOURS, Words, describe_thing
from pipeline.data.openmoji import STYLES


@dataclass(frozen=True)
class Caption:
    """A caption, and which of its words (from 0) are swapped and which are asked for when a picture has random colours."""

    text: str
    swapped: tuple[int, ...]
    asked: range


def caption_sticker(name: str, style: str) -> Caption:
    """Caption a sticker: its style is its second word, and the caption ends with its name."""
    text = describe_pair(name, style)
    return Caption(text, (1,), range(2, len(text.split()) + 1))


def caption_drawing(name: str, words: Words) -> Caption:
    """Caption an artist's drawing: a colour is its second word, maybe another its fourth, and "with" ends the name."""
    start = 2 * len(words.colours)
    return Caption(describe_thing(name, words), tuple(range(1, start, 2)), range(start, start + len(name.split()) + 1))


@dataclass(frozen=True)
class CaptionTokens:
    """Captions of one kind as padded rows with begin and end (caption, token), their marks, and the words of looks to swap with."""

    tokens: Tensor
    swapped: Tensor  # bool
    asked: Tensor  # bool
    looks: Tensor  # numbers of words


def list_words(captions: list[Caption]) -> list[str]:
    """List the words of captions, and those that take the place of looks, sorted."""
    return sorted({word for caption in captions for word in caption.text.split()} | {*STYLES, *COLOURS})


def tokenize_captions(processor: object, captions: list[Caption], *, looks: tuple[str, ...]) -> CaptionTokens:
    """Number the words of captions of one kind."""
    tokens = processor.tokenizer([caption.text + " </s>" for caption in captions], padding=True, return_tensors="pt")["input_ids"]
    swapped, asked = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros_like(tokens, dtype=torch.bool)
    for row, caption in enumerate(captions):  # the begin token comes first
        swapped[row, [place + 1 for place in caption.swapped]] = True
        asked[row, [place + 1 for place in caption.asked]] = True
    return CaptionTokens(tokens, swapped, asked, torch.tensor(processor.tokenizer.convert_tokens_to_ids(list(looks))))


def draw_captions(captions: CaptionTokens, chosen: Tensor, recoloured: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give the chosen captions and targets; the rows marked in `recoloured` name any look and are not asked for it."""
    tokens = captions.tokens[chosen]
    drawn = captions.looks[torch.randint(len(captions.looks), tokens.shape, generator=generator, device=tokens.device)]
    hidden = recoloured[:, None]
    given = torch.where(hidden & captions.swapped[chosen], drawn, tokens)
    return given, tokens.masked_fill(hidden & ~captions.asked[chosen], PAD)
