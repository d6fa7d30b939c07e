"""Training images of the artist families: every drawing of `data/raw/artmoji` once, which pairs may be learnt from, and what is seen in each."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedded import visible_words
from embedded.stickers import IMAGE_SIZE
from embedded.training import ROOT, TRAIN_DIR, write_atomically
from embedded.visible_words import Words, describe_drawing
from pipeline.data.artmoji import FAMILIES, Pictures, Thing, is_held_out, read_things
from pipeline.data.stored_images import fit_square
from pipeline.json_files import read_json

FOLDER = Path("data/raw/artmoji")


@dataclass(frozen=True)
class ArtistDrawings:
    """All (thing, family) pairs: `images` is uint8 of shape (thing, family, 3, height, width)."""

    things: list[Thing]
    images: Tensor
    held_out: Tensor  # bool, (thing, family)
    looks = FAMILIES

    @property
    def names(self) -> tuple[str, ...]:
        """What the things are called."""
        return tuple(thing.name for thing in self.things)

    def list_pairs(self, *, held_out: bool) -> Tensor:
        """List (thing index, family index) rows of the pairs that are, or are not, held out."""
        return torch.nonzero(self.held_out if held_out else ~self.held_out)


@cache
def load_artist_drawings() -> ArtistDrawings:
    """Read all drawings as the data set stores them, on white (seconds)."""
    things, pictures = read_things(ROOT / FOLDER), Pictures(ROOT / FOLDER)
    drawn = [[np.asarray(fit_square(pictures.draw(thing, family), IMAGE_SIZE).convert("RGB")) for family in FAMILIES] for thing in things]
    images = torch.from_numpy(np.ascontiguousarray(np.asarray(drawn).transpose(0, 1, 4, 2, 3)))
    held_out = torch.tensor([[is_held_out(thing, family) for family in FAMILIES] for thing in things])
    return ArtistDrawings(things, images, held_out)


def describe_all(drawings: ArtistDrawings) -> list[list[Words]]:
    """Give the visible words of every drawing, by thing and family (a minute), or read them from the cache, whose name covers drawings and rules."""
    pixels = np.ascontiguousarray(drawings.images.permute(0, 1, 3, 4, 2).numpy())
    sources = Path(visible_words.__file__).read_bytes() + pixels.tobytes()
    path = TRAIN_DIR / f"words-{hashlib.sha256(sources).hexdigest()[:12]}.json"
    if not path.is_file():
        text = json.dumps([[asdict(describe_drawing(picture)) for picture in row] for row in pixels])
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return [[Words(tuple(seen["colours"]), seen["outline"], seen["shading"]) for seen in row] for row in read_json(path)]
