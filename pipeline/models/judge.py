"""The independent judges of drawings: plain CNNs that name the style (or the artist) and the concept of an image.

Not in the paper, whose data know no right answer. The judge shares no weights with anything that draws or rewards images, so
that style accuracy cannot be gained by pleasing the ranker.

Files of a judge's folder: `config.json` (the fields of `JudgeConfig`) and `model.safetensors`.
Shapes: B images, S styles, C concepts, H x W pixels, D and E the widths of what the two heads read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.cluster.parcels import remember_call
from pipeline.json_files import read_json
from pipeline.models.folders import resolve_model
from pipeline.models.references import explain_load_error

NUM_GUESSES = 5  # concepts that a verdict names, fewer if the judge knows fewer


@dataclass(frozen=True)
class JudgeConfig:
    """Geometry and vocabulary of a judge; the order of the names is the order of the outputs."""

    styles: tuple[str, ...]
    concepts: tuple[str, ...]
    image_size: int = 64  # px, side of the square that every image is resized to
    width: int = 32  # channels of the first stage; each of the three later stages doubles them
    style_blocks: int = 0  # halving blocks of the style's own convolutions; 0: it shares the concept's


@dataclass(frozen=True)
class Verdict:
    """What a judge sees in an image."""

    style: str
    concepts: tuple[str, ...]  # the NUM_GUESSES most likely ones, the likeliest first


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; the first one halves the resolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(num_out)
        self.shortcut = nn.Conv2d(num_in, num_out, 1, stride=2, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, num_in, H, W) to (B, num_out, H/2, W/2)."""
        hidden = F.relu(self.norm1(self.conv1(x_BCHW)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x_BCHW))


class JudgeNetwork(nn.Module):
    """Stem, four halving blocks, mean pooling, and one linear head each for style and concept.

    Convolutions that tell hundreds of concepts apart know every drawing by heart, and then name the artist of an unseen one by the drawing that
    it resembles; `style_blocks` gives the style convolutions of its own, which see the hand and not the thing.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**i for i in range(4)]
        self.stem = nn.Conv2d(3, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip([config.width, *widths], widths, strict=False)))
        if config.style_blocks:
            self.style_stem = nn.Conv2d(3, config.width, 3, padding=1)
            shapes = list(zip([config.width, *widths], widths, strict=False))[: config.style_blocks]
            self.style_trunk = nn.Sequential(*(Block(i, o) for i, o in shapes))
        self.style_head = nn.Linear(widths[(config.style_blocks or 4) - 1], len(config.styles))
        self.concept_head = nn.Linear(widths[-1], len(config.concepts))

    def forward(self, pixel_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return style logits (B, S) and concept logits (B, C) of images in [-1, 1]."""
        concept_BD, style_BD = self.pool(pixel_BCHW)
        return self.style_head(style_BD), self.concept_head(concept_BD)

    def pool(self, pixel_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the concept's head (B, D) and the style's head (B, E) read of images in [-1, 1]."""
        concept_BD = self.blocks(self.stem(pixel_BCHW)).mean(dim=(2, 3))
        if not self.config.style_blocks:
            return concept_BD, concept_BD
        return concept_BD, self.style_trunk(self.style_stem(pixel_BCHW)).mean(dim=(2, 3))


class Judge:
    """A judge network in evaluation mode with its vocabulary."""

    def __init__(self, network: JudgeNetwork, config: JudgeConfig, device: torch.device) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.config = config
        self.device = device

    @torch.inference_mode()
    def name_images(self, images: Sequence[np.ndarray]) -> list[Verdict]:
        """Name style and concepts of each uint8 (H, W, 3) image, resized to the judge's own size."""
        if not images:
            return []
        style_BS, concept_BC = self.network(self._stack(images))
        order_BC = concept_BC.argsort(dim=1, descending=True, stable=True)[:, :NUM_GUESSES]  # ties go to the first, as with argmax
        names = zip(style_BS.argmax(dim=1).tolist(), order_BC.tolist(), strict=True)
        return [Verdict(self.config.styles[style], tuple(self.config.concepts[i] for i in order)) for style, order in names]

    @torch.inference_mode()
    def encode_images(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return what the style's head reads of each uint8 (H, W, 3) image as (B, E) unit vectors on the CPU."""
        return F.normalize(self.network.pool(self._stack(images))[1], dim=1).cpu()

    def _stack(self, images: Sequence[np.ndarray]) -> Tensor:
        size = (self.config.image_size, self.config.image_size)
        pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() for image in images]
        resized = [p if p.shape[2:] == size else F.interpolate(p, size, mode="bilinear", antialias=True) for p in pixels]
        return (torch.cat(resized) / 127.5 - 1).to(self.device)


@remember_call
def load_judge(reference: str | Path, *, device: torch.device | str = "cpu") -> Judge:
    """Load a judge from its folder; ValueError if a file is missing or does not fit."""
    from safetensors.torch import load_file

    folder = Path(resolve_model(str(reference)))
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise ValueError(f"The judge in {folder} has no {path.name}.")
    with explain_load_error("judge", str(folder)):
        block = read_json(config_path)
        names = {name: tuple(block[name]) for name in ("styles", "concepts")}
        config = JudgeConfig(**names, image_size=int(block["image_size"]), width=int(block["width"]), style_blocks=int(block.get("style_blocks", 0)))
        weights = load_file(weights_path)
    network = JudgeNetwork(config)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"The weights in {weights_path} do not fit the judge of {config_path.name}: {error}") from error
    return Judge(network, config, torch.device(device))
