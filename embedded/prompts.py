"""The conditions that the drawing model is trained on: plain texts of any length, and look tokens, dropped at random and apart.

Words: one to three blocks of 32 token states along the token axis, each a different wording of the same pair, and no block that any method of the
pipeline makes in a way of its own: what follows a text encoder is treated alike whichever method wrote it.
Look: pictures of other things in the same look, as `pipeline.models.look` reads them; some of them by another hand, as in a user's history.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from embedded import examples as examples_module
from embedded import texts, visible_words
from embedded.examples import NUM_TEXTS, Examples, write_texts
from embedded.texts import MAX_TOKENS, TEXT_WIDTH, encode_pooled, encode_texts, list_name_texts, list_style_texts
from embedded.training import TRAIN_DIR, write_atomically
from pipeline.data.openmoji import STYLES

BLOCK_COUNTS, BLOCK_WEIGHTS = (1, 2, 3), (0.5, 0.25, 0.25)
EMPTY_SHARE = 0.1  # of the rows, for classifier-free guidance
FREE_SHARE = 0.06  # of the stickers' rows name no style at all; of those with a look
FREE_SHARE_LOOK = 0.4
BARE_SHARE = 0.06  # of the stickers' rows name a style only
PLAIN_SHARE = 0.3  # of the batches have no look tokens at all
NO_LOOK_SHARE = 0.15  # of the other batches' rows have the tokens that say nothing
MAX_ITEMS = 10  # pictures of a look, at least two
MIXED_SHARE = 0.5  # of the looks hold pictures by other hands
MAX_WRONG = 0.4  # share of such pictures


@dataclass(frozen=True)
class TextBank:
    """Token states (float16) of all wordings (example, wording, 32, 384), of each thing's and style's name, and of the empty text."""

    pairs: Tensor
    names: Tensor
    styles: Tensor
    empty: Tensor


@dataclass(frozen=True)
class LookBank:
    """Unit vectors of the examples' pictures (N, V) and of their things' names (N, C), and which examples each look has."""

    visual: Tensor
    text: Tensor
    members: list[Tensor]


def name_cache(*facts: object) -> Path:
    """Name a file for what was computed from these facts by the present wordings."""
    sources = b"".join(Path(module.__file__).read_bytes() for module in (examples_module, texts, visible_words))
    digest = hashlib.sha256(sources + repr(facts).encode()).hexdigest()[:12]
    return TRAIN_DIR / "unet" / f"{facts[0]}-{digest}.pt"


def load_text_bank(examples: Examples, *, seed: int) -> TextBank:
    """Encode every training text once (minutes on one core), or read them."""
    path = name_cache("texts", len(examples), seed)
    if not path.is_file():
        groups = {
            "pairs": ([text for wordings in write_texts(examples, seed=seed) for text in wordings], NUM_TEXTS),
            "names": ([text for name in examples.names for text in list_name_texts(name)], 3),
            "styles": ([text for style in STYLES for text in list_style_texts(style)], len(list_style_texts(STYLES[0]))),
        }
        states = {name: encode_texts(group, fast=True)[0].view(-1, count, MAX_TOKENS, TEXT_WIDTH) for name, (group, count) in groups.items()}
        bank = {**states, "empty": encode_texts([""], fast=True)[0][0]}
        write_atomically(path, lambda temporary: torch.save(bank, temporary))
    return TextBank(**torch.load(path, weights_only=True, mmap=True))


def load_look_bank(examples: Examples, kind: str) -> LookBank:
    """Encode every picture with Enc^vis and every name once (minutes on one core), or read them."""
    path = name_cache(f"looks-{kind}", len(examples))
    if not path.is_file():
        visual = encode_pictures(examples.images)
        names = torch.nn.functional.normalize(encode_pooled(examples.names), dim=-1)
        write_atomically(path, lambda temporary: torch.save({"visual": visual.half(), "names": names}, temporary))
    stored = torch.load(path, weights_only=True)
    members = [torch.nonzero(examples.looks == look)[:, 0] for look in range(int(examples.looks.max()) + 1)]
    return LookBank(stored["visual"].float(), stored["names"][examples.things], members)


def encode_pictures(images_u8: Tensor) -> Tensor:
    """Encode uint8 pictures (N, 3, H, W) as the pipeline does, with Enc^vis."""
    from PIL import Image

    from pipeline.models.encoders import load_visual

    encoder = load_visual("embedded/visual")
    batches = ([Image.fromarray(image.permute(1, 2, 0).numpy()) for image in batch] for batch in images_u8.split(64))
    return torch.cat([encoder.encode_images(batch) for batch in batches])


def draw_words(bank: TextBank, examples: Examples, chosen: Tensor, generator: torch.Generator, *, with_look: bool) -> Tensor:
    """Draw the words' token states (row, tokens, 384) for the examples numbered `chosen`; all rows have as many tokens."""
    device = generator.device
    count = BLOCK_COUNTS[torch.multinomial(torch.tensor(BLOCK_WEIGHTS, device=device), 1, generator=generator).item()]
    wordings = torch.rand((len(chosen), NUM_TEXTS), generator=generator, device=device).argsort(dim=1)[:, :count]
    blocks = bank.pairs[chosen[:, None], wordings].float()
    rows, is_sticker = torch.rand(len(chosen), generator=generator, device=device), chosen < examples.num_stickers
    free_share = FREE_SHARE_LOOK if with_look else FREE_SHARE
    free, bare = is_sticker & (rows < free_share), is_sticker & (rows >= free_share) & (rows < free_share + BARE_SHARE)
    blocks[free] = draw_texts(bank.names, examples.things[chosen[free]], generator)[:, None]
    blocks[bare] = draw_texts(bank.styles, examples.looks[chosen[bare]], generator)[:, None]
    blocks[rows > 1 - EMPTY_SHARE] = bank.empty.float()
    return blocks.flatten(1, 2)


def draw_texts(bank: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one of the texts of each row of a bank."""
    return bank[rows, torch.randint(bank.shape[1], (len(rows),), generator=generator, device=generator.device)].float()


def draw_look_items(bank: LookBank, examples: Examples, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the pictures (row, 10) that show each example's look, and their weights: of other things, some by another hand of the same kind."""
    shape, device = (len(chosen), MAX_ITEMS), generator.device

    def draw(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=device)

    looks, things = examples.looks[chosen, None], examples.things[chosen, None]
    sizes = torch.tensor([len(members) for members in bank.members], device=device)[looks]
    table = pad_sequence(bank.members, batch_first=True)
    places = (draw(*shape) * sizes).long()
    places = torch.where(examples.things[table[looks, places]] == things, (places + 1) % sizes, places)
    items = table[looks, places]

    counts = torch.randint(2, MAX_ITEMS + 1, (len(chosen), 1), generator=generator, device=device)
    numbers = torch.arange(MAX_ITEMS, device=device)
    mixed = draw(len(chosen), 1) < MIXED_SHARE
    num_wrong = torch.where(mixed, draw(len(chosen), 1) * ((MAX_WRONG * counts).long() + 1), 0).long()
    first = torch.where(looks < len(STYLES), 0, examples.num_stickers)
    last = torch.where(looks < len(STYLES), examples.num_stickers, len(examples.things))
    wrong = first + (draw(*shape) * (last - first)).long()
    items = torch.where(numbers < num_wrong, wrong, items)

    logits = draw(len(chosen), 1) * torch.randn(shape, generator=generator, device=device)
    return items, logits.masked_fill(numbers >= counts, -torch.inf).softmax(dim=1)
