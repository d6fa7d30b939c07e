"""What the drawing model learns from: (thing, look) pairs of both kinds in one list, stickers in named styles and drawings by nameless artists.

One artist family is left out altogether, so that it can be asked for a look that nobody trained it on.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from embedded.artist_drawings import load_artist_drawings
from embedded.stickers import DEFAULT_UNIVERSE, choose_article, describe_pair, load_stickers
from embedded.texts import list_name_texts, list_pair_texts
from embedded.visible_words import Words, describe_drawing, describe_thing
from pipeline.data.artmoji import FAMILIES
from pipeline.data.openmoji import STYLES

UNSEEN_FAMILY = "noto-v1"  # dataset.held_out_family of the data set artmoji
NUM_TEXTS = 7  # of an example


@dataclass(frozen=True)
class Examples:
    """Pairs of both kinds, the stickers first; looks are the styles, then the families; things of the two kinds have different numbers."""

    images: Tensor  # uint8 (N, 3, 64, 64)
    looks: Tensor  # (N,)
    things: Tensor  # (N,)
    names: list[str]  # of the things
    groups: list[str]  # that the things belong to
    num_stickers: int

    def __len__(self) -> int:
        return len(self.images)


def load_examples(*, held_out: bool) -> Examples:
    """Load the pairs that may, or may not, be learnt from; of the held-out stickers those of the default data set."""
    stickers, drawings = load_stickers(), load_artist_drawings()
    sticker_rows, drawing_rows = (kind.list_pairs(held_out=held_out) for kind in (stickers, drawings))
    if held_out:
        sticker_rows = sticker_rows[sticker_rows[:, 0] < DEFAULT_UNIVERSE]
    drawing_rows = drawing_rows[drawing_rows[:, 1] != FAMILIES.index(UNSEEN_FAMILY)]
    return Examples(
        images=torch.cat([kind.images[rows[:, 0], rows[:, 1]] for kind, rows in ((stickers, sticker_rows), (drawings, drawing_rows))]),
        looks=torch.cat([sticker_rows[:, 1], len(STYLES) + drawing_rows[:, 1]]),
        things=torch.cat([sticker_rows[:, 0], len(stickers.concepts) + drawing_rows[:, 0]]),
        names=[*stickers.names, *drawings.names],
        groups=[*(concept.group for concept in stickers.concepts), *(thing.category for thing in drawings.things)],
        num_stickers=len(sticker_rows),
    )


def write_texts(examples: Examples, *, seed: int) -> list[list[str]]:
    """Write `NUM_TEXTS` wordings of every example, as people and the pipeline write prompts; the canonical caption comes first."""
    rng = random.Random(seed)
    peers: dict[str, list[str]] = {}
    for name, group in zip(examples.names, examples.groups, strict=True):
        peers.setdefault(group, []).append(name)
    texts = []
    for number in range(len(examples)):
        thing = examples.things[number].item()
        name, group = examples.names[thing], examples.groups[thing]
        if number < examples.num_stickers:
            style = STYLES[examples.looks[number]]
            texts.append([*list_pair_texts(name, style)[:4], *(write_keywords(name, group, style, peers, rng) for _ in range(3))])
        else:
            texts.append(write_visible_texts(name, describe_drawing(examples.images[number].permute(1, 2, 0).numpy()), rng))
    return texts


def write_keywords(name: str, group: str, style: str, peers: dict[str, list[str]], rng: random.Random) -> str:
    """Write a preference prompt: the concept, then keywords by frequency; a wrong style may follow the right one."""
    keywords = rng.sample([other for other in peers[group] if other != name], rng.randint(0, 4))
    if rng.random() < 0.6:
        keywords.insert(rng.randint(0, len(keywords)), "sticker")
    if rng.random() < 0.5:
        keywords.insert(rng.randint(0, len(keywords)), group)
    place = 0 if rng.random() < 0.6 else rng.randint(0, min(2, len(keywords)))
    keywords.insert(place, style)
    if rng.random() < 0.25:
        wrong = rng.choice([other for other in STYLES if other != style])
        keywords.insert(rng.randint(place + 1, len(keywords)), wrong)
    return ", ".join([name, *keywords])


def write_visible_texts(name: str, words: Words, rng: random.Random) -> list[str]:
    """Write wordings of a drawing: what can be seen in some, the thing alone in the others."""
    colours = " and ".join(words.colours)
    keywords = [*words.colours, f"{words.shading} shading", f"{words.outline} outline".removeprefix("a ")]
    chosen = rng.sample(keywords, rng.randint(1, len(keywords)))
    plain = f"{choose_article(colours)} {colours} {name}"
    return [describe_thing(name, words), plain, ", ".join([name, *chosen]), *list_name_texts(name), name]


def describe_example(examples: Examples, number: int) -> str:
    """Say what an example is called: a sticker by its caption, a drawing by the thing's name alone."""
    name = examples.names[examples.things[number]]
    return describe_pair(name, STYLES[examples.looks[number]]) if number < examples.num_stickers else name
