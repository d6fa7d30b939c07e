"""What the drawing model is trained to understand: the kinds of conditioning that the pipeline sends it.

A condition is one to three blocks of 32 token states along the token axis, each a different wording of the same (concept, style)
pair; sometimes a block's rows are convex mixtures of another block's rows, as the balance calibrator makes them. Then the other
block may list several styles in any order, and the mixtures dwell on the words to be drawn: such rows are read as emphasis.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from embedded.stickers import Stickers
from embedded.texts import MAX_TOKENS, TEXT_WIDTH, encode_texts, list_name_texts, list_pair_texts, list_style_texts, load_text_tower
from pipeline.conditioning.attention_pretraining import list_parts
from pipeline.data.openmoji import STYLES, Concept

NUM_KEYWORD_TEXTS = 3  # per pair
BLOCK_COUNTS, BLOCK_WEIGHTS = (1, 2, 3), (0.4, 0.25, 0.35)
MIXED_SHARE = 0.25  # of the batches with two or three blocks
NAMED_SHARE = 0.15  # of the rows of such batches: one block says what, the others also how
SPLIT_SHARE = 0.15  # of the rows of such batches: one block says what, the others only how
LISTED_SHARE = 0.5  # of the batches with two or three blocks: the last one lists several styles, the others dwell on the right one
EMPTY_SHARE = 0.1  # of the rows, for classifier-free guidance
FREE_SHARE = 0.06  # of the rows name no style at all
BARE_SHARE = 0.06  # of the rows name a style only


@dataclass(frozen=True)
class ConditionBank:
    """Token states (float16) of all training texts: (pair, text, 32, 384), of each concept, each style, and of the empty text.

    `lists` (pair, 32, 384) are texts that list several styles; `marks` (pair, 32) says which of their tokens name the pair.
    """

    pairs: Tensor
    lists: Tensor
    marks: Tensor
    names: Tensor
    styles: Tensor
    empty: Tensor


def write_keyword_text(concept: Concept, style: str, peers: dict[str, list[str]], rng: random.Random) -> str:
    """Write a preference prompt: the concept, then keywords by frequency; a wrong style may follow the right one."""
    others = [name for name in peers[concept.group] if name != concept.name]
    keywords = rng.sample(others, rng.randint(0, 4))
    if rng.random() < 0.6:
        keywords.insert(rng.randint(0, len(keywords)), "sticker")
    if rng.random() < 0.5:
        keywords.insert(rng.randint(0, len(keywords)), concept.group)
    place = 0 if rng.random() < 0.6 else rng.randint(0, min(2, len(keywords)))
    keywords.insert(place, style)
    if rng.random() < 0.25:
        wrong = rng.choice([other for other in STYLES if other != style])
        keywords.insert(rng.randint(place + 1, len(keywords)), wrong)
    return ", ".join([concept.name, *keywords])


def write_list_text(concept: Concept, style: str, peers: dict[str, list[str]], rng: random.Random) -> tuple[str, list[str]]:
    """Write what a user's whole history says: the concept, then keywords with several styles in any order; also give the words to be drawn."""
    others = [name for name in peers[concept.group] if name != concept.name]
    wrong = rng.sample([other for other in STYLES if other != style], rng.randint(1, 4))
    keywords = [style, *wrong, "sticker", *rng.sample(others, rng.randint(0, 3)), *rng.sample([concept.group], rng.randint(0, 1))]
    rng.shuffle(keywords)
    return ", ".join([concept.name, *keywords]), [concept.name, style]


def mark_words(text: str, words: list[str]) -> list[bool]:
    """Say of each of the text's 32 tokens whether it is part of one of its comma-separated `words`."""
    parts = list_parts(text, load_text_tower()[0], num_tokens=MAX_TOKENS)
    marked = {place for part, places in parts if part in words for place in places}
    return [place in marked for place in range(MAX_TOKENS)]


def build_condition_bank(stickers: Stickers, pairs: Tensor, *, seed: int) -> ConditionBank:
    """Encode every training text once (minutes on one core)."""
    rng = random.Random(seed)
    peers: dict[str, list[str]] = {}
    for concept in stickers.concepts:
        peers.setdefault(concept.group, []).append(concept.name)
    texts, lists, marks = [], [], []
    for concept_index, style_index in pairs.tolist():
        concept, style = stickers.concepts[concept_index], STYLES[style_index]
        texts += list_pair_texts(concept.name, style)[:4]
        texts += [write_keyword_text(concept, style, peers, rng) for _ in range(NUM_KEYWORD_TEXTS)]
        text, words = write_list_text(concept, style, peers, rng)
        lists.append(text)
        marks.append(mark_words(text, words))
    names = [text for concept in stickers.concepts for text in list_name_texts(concept.name)]
    styles = [text for style in STYLES for text in list_style_texts(style)]
    groups = ((texts, len(pairs)), (names, len(stickers.concepts)), (styles, len(STYLES)))
    banks = [encode_texts(group, fast=True)[0].view(count, -1, MAX_TOKENS, TEXT_WIDTH) for group, count in groups]
    listed = encode_texts(lists, fast=True)[0]
    return ConditionBank(banks[0], listed, torch.tensor(marks), *banks[1:], empty=encode_texts([""], fast=True)[0][0])


def draw_conditions(bank: ConditionBank, chosen: Tensor, pairs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw conditions (row, tokens, 384) for the pairs numbered `chosen`, `pairs` (concept, style); all rows have as many tokens."""
    weights = torch.tensor(BLOCK_WEIGHTS)
    count = BLOCK_COUNTS[torch.multinomial(weights, 1, generator=generator).item()]
    num_texts = bank.pairs.shape[1]
    texts = torch.stack([torch.randperm(num_texts, generator=generator)[:count] for _ in range(len(chosen))])
    blocks = bank.pairs[chosen[:, None], texts].float()
    rows = torch.rand(len(chosen), generator=generator)
    names, styles = draw_texts(bank.names, pairs[:, 0], generator), draw_texts(bank.styles, pairs[:, 1], generator)
    free, bare = rows < FREE_SHARE, (rows >= FREE_SHARE) & (rows < FREE_SHARE + BARE_SHARE)
    blocks[free] = names[free, None]
    blocks[bare] = styles[bare, None]
    if count > 1:
        parts = torch.rand(len(chosen), generator=generator)
        named, split = parts < NAMED_SHARE + SPLIT_SHARE, parts < SPLIT_SHARE
        blocks[named, 0] = names[named]
        blocks[split, 1:] = styles[split, None]
        kind = torch.rand((), generator=generator)
        if kind < MIXED_SHARE:
            blocks[:, -1] = mix_rows(blocks[:, 0], generator)
        elif kind < MIXED_SHARE + LISTED_SHARE:
            blocks[:, -1] = bank.lists[chosen].float()
            for place in range(count - 1):
                blocks[:, place] = dwell_on(blocks[:, -1], bank.marks[chosen], generator)
    blocks[rows > 1 - EMPTY_SHARE] = bank.empty.float()
    return blocks.flatten(1, 2)


def draw_texts(bank: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one of the texts of each row of a bank."""
    return bank[rows, torch.randint(bank.shape[1], (len(rows),), generator=generator)].float()


def mix_rows(block_BTD: Tensor, generator: torch.Generator) -> Tensor:
    """Replace every row by a convex mixture of the rows, anywhere between one row and their mean."""
    count, tokens, _ = block_BTD.shape
    sharpness = 6 * torch.rand((count, 1, 1), generator=generator)
    weights = (sharpness * torch.randn((count, tokens, tokens), generator=generator)).softmax(dim=-1)
    return weights @ block_BTD


def dwell_on(block_BTD: Tensor, mark_BT: Tensor, generator: torch.Generator) -> Tensor:
    """Replace every row by a convex mixture of the rows that gives the marked ones more weight, a little or nearly all."""
    count, tokens, _ = block_BTD.shape
    sharpness, focus = 3 * torch.rand((2, count, 1, 1), generator=generator)
    noise = torch.randn((count, tokens, tokens), generator=generator)
    return (sharpness * noise + 2 * focus * mark_BT[:, None]).softmax(dim=-1) @ block_BTD
