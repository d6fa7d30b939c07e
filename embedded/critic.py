"""The critic: says how real a drawing by an artist looks, so that a reader cannot be pleased by textures that nobody draws.

It learns while the drawing model does, from real drawings (through the autoencoder) and from what is drawn, as in a projected GAN (Sauer et al.
2021): it sees a picture by the maps of a frozen trunk, that of Enc^vis, and small convolutions on four of them say of every place how real it looks
as a drawing by one of the families. Hinge losses. The perceptual distance of the metrics sees by another trunk.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from embedded.stickers import flip_images
from embedded.training import DEVICE
from pipeline.data.artmoji import FAMILIES
from pipeline.models.backbone import Backbone, load_backbone
from pipeline.models.folders import resolve_model

NUM_MAPS, WIDTH, MAX_SHIFT = 4, 64, 4


class Critic(nn.Module):
    """A score for every place of every map, for each family."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.judgements = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, width),
                nn.Conv2d(width, WIDTH, 1),
                nn.SiLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(WIDTH, len(FAMILIES), 1),
            )
            for width in widths
        )

    def forward(self, maps: Sequence[Tensor], family_B: Tensor) -> list[Tensor]:
        """Give the scores (B, H, W) of each map (B, C, H, W) as drawings by these families; more is more real."""
        rows = torch.arange(len(family_B), device=family_B.device)
        return [judgement(layer)[rows, family_B] for judgement, layer in zip(self.judgements, maps, strict=True)]

    def score_frozen(self, maps: Sequence[Tensor], family_B: Tensor) -> Tensor:
        """Give the mean score, whose gradient reaches the pictures and not the critic."""
        frozen = {name: value.detach() for name, value in self.named_parameters()}
        return mean(functional_call(self, frozen, (maps, family_B)))

    def compute_loss(self, real: Sequence[Tensor], real_family_B: Tensor, drawn: Sequence[Tensor], drawn_family_B: Tensor) -> Tensor:
        """Hinge loss of telling real from drawn, whose gradient reaches the critic and not the pictures."""
        told = self(real, real_family_B), self([layer.detach() for layer in drawn], drawn_family_B)
        return mean([(1 - score).relu() for score in told[0]]) + mean([(1 + score).relu() for score in told[1]])


def mean(parts: Sequence[Tensor]) -> Tensor:
    """Give the mean over maps of their means."""
    return torch.stack([part.mean() for part in parts]).mean()


def load_eyes() -> Backbone:
    """Load the trunk by which the critic sees."""
    return load_backbone(Path(resolve_model("embedded/visual")), device=DEVICE)


def see(eyes: Backbone, images: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Give the first maps of images in [-1, 1], some of which are flipped, all shifted alike."""
    shift = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,), generator=generator, device=generator.device).tolist()
    seen = torch.roll(flip_images(images.clamp(-1, 1), generator), shift, dims=(2, 3))
    with torch.autocast(images.device.type, torch.bfloat16):
        return [layer.float() for layer in eyes.extract((seen + 1) / 2)[:NUM_MAPS]]
