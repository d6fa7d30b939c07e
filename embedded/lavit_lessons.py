"""What the small LaVIT's tokenizer and decoder learn from: pictures, what the U-Net reads of their captions, and how a batch is drawn of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from embedded.stickers import Stickers
from embedded.texts import encode_texts
from pipeline.data.openmoji import STYLES

ROUNDS = 2  # how often the states of a caption come, one behind the other: it is shorter than there are places, and attention is the same


@dataclass(frozen=True)
class Lessons:
    """Pictures and what the U-Net reads of short captions."""

    images: Tensor  # (N, 3, 64, 64), uint8
    pairs: Tensor  # (N, 2): thing and style of each
    row_of: Tensor  # (things, styles): where a pair is among the pictures, -1 for one that is not
    captions: Tensor  # (things, styles, places, 384), float16

    def find_states(self, pairs: Tensor) -> Tensor:
        """Return what the U-Net reads of the captions of pairs (B, 2)."""
        return self.captions[pairs[:, 0], pairs[:, 1]]

    def draw_rows(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw the rows of `size` pictures; the second half shows the things of the first, each in another style where there is one."""
        first = torch.randint(len(self.pairs), (size // 2,), generator=generator, device=self.pairs.device)
        things, styles = self.pairs[first].T
        chance_BS = torch.rand((len(first), self.row_of.shape[1]), generator=generator, device=self.pairs.device) * (self.row_of[things] >= 0)
        chance_BS[torch.arange(len(first)), styles] = 0
        found = self.row_of[things, chance_BS.argmax(dim=1)]
        return torch.cat([first, torch.where(chance_BS.any(dim=1), found, first)])

    def draw_donors(self, rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Draw for every place of a batch that whose style it takes over: of a `share` another, if the pair may be learnt from, else its own."""
        own = torch.arange(len(rows), device=rows.device)
        donors = torch.randperm(len(rows), generator=generator, device=rows.device)
        known = self.row_of[self.pairs[rows, 0], self.pairs[rows[donors], 1]] >= 0
        drawn = torch.rand(len(rows), generator=generator, device=rows.device) < share
        return torch.where(known & drawn, donors, own)


def build_lessons(stickers: Stickers, num_places: int, *, held_out: bool) -> Lessons:
    """Collect the pairs that may, or may not, be learnt from; a caption has `num_places` states."""
    pairs = stickers.list_pairs(held_out=held_out)
    texts = [f"{name}, {style}" for name in stickers.names for style in STYLES]
    states = encode_texts(texts)[0][:, : num_places // ROUNDS].repeat(1, ROUNDS, 1)
    row_of = torch.full((len(stickers.names), len(STYLES)), -1)
    row_of[pairs[:, 0], pairs[:, 1]] = torch.arange(len(pairs))
    return Lessons(stickers.images[pairs[:, 0], pairs[:, 1]], pairs, row_of, states.unflatten(0, row_of.shape))
