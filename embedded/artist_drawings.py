"""Training images of the artist families: every drawing of `data/raw/artmoji` once, and which pairs may be learnt from."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedded.stickers import IMAGE_SIZE
from embedded.training import ROOT
from pipeline.data.artmoji import FAMILIES, Pictures, Thing, is_held_out, read_things
from pipeline.data.stored_images import fit_square

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
