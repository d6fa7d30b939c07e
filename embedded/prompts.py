"""What the drawing model is trained to understand: the kinds of conditioning that the pipeline sends it.

A condition is one to three blocks of 32 token states along the token axis, each a different wording of the same (concept, style)
pair; sometimes a block's rows are convex mixtures of another block's rows, as the balance calibrator makes them.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from embedded.stickers import Stickers
from embedded.texts import MAX_TOKENS, TEXT_WIDTH, encode_texts, list_name_texts, list_pair_texts, list_style_texts
from pipeline.data.openmoji import STYLES, Concept

NUM_KEYWORD_TEXTS = 3  # per pair
BLOCK_COUNTS, BLOCK_WEIGHTS = (1, 2, 3), (0.5, 0.25, 0.25)
MIXED_SHARE = 0.35  # of the batches with two or three blocks
NAMED_SHARE = 0.15  # of the rows of such batches: one block says what, the others also how
SPLIT_SHARE = 0.15  # of the rows of such batches: one block says what, the others only how
EMPTY_SHARE = 0.1  # of the rows, for classifier-free guidance
FREE_SHARE = 0.06  # of the rows name no style at all


@dataclass(frozen=True)
class ConditionBank:
    """Token states (float16) of all training texts: (pair, text, 32, 384), of each concept, each style, and of the empty text."""

    pairs: Tensor
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


def build_condition_bank(stickers: Stickers, pairs: Tensor, *, seed: int) -> ConditionBank:
    """Encode every training text once (minutes on one core)."""
    rng = random.Random(seed)
    peers: dict[str, list[str]] = {}
    for concept in stickers.concepts:
        peers.setdefault(concept.group, []).append(concept.name)
    texts = []
    for concept_index, style_index in pairs.tolist():
        concept, style = stickers.concepts[concept_index], STYLES[style_index]
        texts += list_pair_texts(concept.name, style)[:4]
        texts += [write_keyword_text(concept, style, peers, rng) for _ in range(NUM_KEYWORD_TEXTS)]
    names = [text for concept in stickers.concepts for text in list_name_texts(concept.name)]
    styles = [text for style in STYLES for text in list_style_texts(style)]
    groups = ((texts, len(pairs)), (names, len(stickers.concepts)), (styles, len(STYLES)))
    banks = [encode_texts(group, fast=True)[0].view(count, -1, MAX_TOKENS, TEXT_WIDTH) for group, count in groups]
    return ConditionBank(*banks, empty=encode_texts([""], fast=True)[0][0])


def draw_conditions(bank: ConditionBank, chosen: Tensor, pairs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw conditions (row, tokens, 384) for the pairs numbered `chosen`, `pairs` (concept, style); all rows have as many tokens."""
    weights = torch.tensor(BLOCK_WEIGHTS)
    count = BLOCK_COUNTS[torch.multinomial(weights, 1, generator=generator).item()]
    num_texts = bank.pairs.shape[1]
    texts = torch.stack([torch.randperm(num_texts, generator=generator)[:count] for _ in range(len(chosen))])
    blocks = bank.pairs[chosen[:, None], texts].float()
    rows = torch.rand(len(chosen), generator=generator)
    names = draw_texts(bank.names, pairs[:, 0], generator)
    blocks[rows < FREE_SHARE] = names[rows < FREE_SHARE, None]
    if count > 1:
        parts = torch.rand(len(chosen), generator=generator)
        named, split = parts < NAMED_SHARE + SPLIT_SHARE, parts < SPLIT_SHARE
        blocks[named, 0] = names[named]
        blocks[split, 1:] = draw_texts(bank.styles, pairs[:, 1], generator)[split, None]
        if torch.rand((), generator=generator) < MIXED_SHARE:
            blocks[:, -1] = mix_rows(blocks[:, 0], generator)
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
