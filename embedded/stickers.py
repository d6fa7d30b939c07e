"""Training images and texts: every sticker drawn once, which pairs may be learnt from, and how a pair can be put in words."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedded.training import ROOT, TRAIN_DIR, write_atomically
from pipeline.data import artmoji, openmoji
from pipeline.data.artmoji import read_things
from pipeline.data.openmoji import STYLES, Concept, is_held_out, read_concepts, render_sticker

IMAGE_SIZE = 64
DEFAULT_UNIVERSE = 300
ON_WHITE = ("classic", "outline")  # only fills and line widths tell these two apart


@dataclass(frozen=True)
class Stickers:
    """All (concept, style) pairs: `images` is uint8 of shape (concept, style, 3, height, width)."""

    concepts: list[Concept]
    images: Tensor
    held_out: Tensor  # bool, (concept, style)
    looks = STYLES

    @property
    def names(self) -> tuple[str, ...]:
        """What the concepts are called."""
        return tuple(concept.name for concept in self.concepts)

    def list_pairs(self, *, held_out: bool) -> Tensor:
        """List (concept index, style index) rows of the pairs that are held out, or of those to train on."""
        return torch.nonzero(self.held_out if held_out else ~self.held_out & ~find_twins(self.concepts))


def find_twins(concepts: list[Concept]) -> Tensor:
    """Mark, as bool (concept, style), the classic stickers that show the same as a held-out drawing of the family OpenMoji: nobody trains on them."""
    held_out = {thing.code_point.upper() for thing in read_things(ROOT / "data/raw/artmoji") if artmoji.is_held_out(thing, "openmoji")}
    return torch.tensor([[style == "classic" and concept.hexcode in held_out for style in STYLES] for concept in concepts])


def load_stickers(limit: int | None = None) -> Stickers:
    """Draw all stickers of the first `limit` concepts, or read them from the cache."""
    concepts = read_concepts(limit)
    images = torch.from_numpy(read_or_draw(read_concepts())[: len(concepts)].copy())
    held_out = torch.tensor([[is_held_out(concept.hexcode, style) for style in STYLES] for concept in concepts])
    return Stickers(concepts, images, held_out)


def read_or_draw(concepts: list[Concept]) -> np.ndarray:
    """Give uint8 images of shape (concept, style, 3, 64, 64); the cache's name covers what is drawn and how."""
    sources = Path(openmoji.__file__).read_bytes() + openmoji.CONCEPTS_PATH.read_bytes()
    path = TRAIN_DIR / f"stickers-{hashlib.sha256(sources).hexdigest()[:12]}.npy"
    if not path.is_file():
        drawn = [[render_sticker(concept, style, size=IMAGE_SIZE) for style in STYLES] for concept in concepts]
        images = np.ascontiguousarray(np.asarray(drawn).transpose(0, 1, 4, 2, 3))

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, images)

        write_atomically(path, write)
    return np.load(path, allow_pickle=False)


def number_pairs(pairs: Tensor, *, copies_on_white: int) -> Tensor:
    """Number (concept, style) rows, those in a style on white several times, to draw a batch from."""
    on_white = torch.isin(pairs[:, 1], torch.tensor([STYLES.index(style) for style in ON_WHITE]))
    return torch.arange(len(pairs)).repeat_interleave(torch.where(on_white, copies_on_white, 1))


def scale_images(images_u8: Tensor) -> Tensor:
    """Map uint8 pixels to floats in [-1, 1]."""
    return images_u8.float() / 127.5 - 1


def shift_images(images_BCHW: Tensor, generator: torch.Generator, *, reach: int) -> Tensor:
    """Move each image by up to `reach` pixels, repeating its border."""
    size = images_BCHW.shape[-1]
    padded = torch.nn.functional.pad(images_BCHW, (reach,) * 4, mode="replicate")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # (B, C, y, x, H, W), a view
    y, x = torch.randint(0, 2 * reach + 1, (2, len(images_BCHW)), generator=generator, device=generator.device)
    return windows[torch.arange(len(images_BCHW), device=generator.device), :, y, x]


def flip_images(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images."""
    flipped = torch.rand(len(images_BCHW), generator=generator, device=generator.device) < 0.5
    return torch.where(flipped[:, None, None, None], images_BCHW.flip(-1), images_BCHW)


def choose_article(word: str) -> str:
    """Give "a" or "an"."""
    return "an" if word[0] in "aeiou" and not word.startswith(("uni", "ufo")) else "a"


def describe_pair(name: str, style: str) -> str:
    """Say what a sticker shows, in the one canonical way: the captioner's language."""
    return f"{choose_article(style)} {style} sticker of {choose_article(name)} {name}"
