"""How large GLIDE's two models are: the official sizes, or those that `config.json` beside the weights gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Len, Lt, MultipleOf

from pipeline.config import Count, config_dataclass
from pipeline.json_files import read_json
from pipeline.params import build_config

CONFIG_NAME = "config.json"
NUM_GROUPS = 32  # of every group normalisation

Width = Annotated[int, Ge(1), MultipleOf(NUM_GROUPS)]


@config_dataclass
class GlideShape:
    """One of the two models: a U-Net over pixels with a text transformer of its own."""

    image_size: Count  # px
    low_res_size: Annotated[int, Ge(0)]  # px of the picture that is made larger; 0: none, noise becomes a picture
    channels: Width  # at full size
    multipliers: Annotated[tuple[Count, ...], Len(1)]  # of the channels, for each halving of the size
    num_res_blocks: Count  # of each size on the way down; one more on the way up
    attention_sizes: tuple[Count, ...]  # px
    head_channels: Count  # of an attention head
    schedule: Literal["squaredcos_cap_v2", "linear"]  # of the noise
    text_tokens: Count  # read of a prompt
    text_width: Count
    text_layers: Count
    text_heads: Count
    vocabulary: Count  # tokens
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1  # in training

    def __post_init__(self) -> None:
        smallest = 2 ** (len(self.multipliers) - 1)
        if self.image_size % smallest:
            raise ValueError(f"image_size is {self.image_size}, but it must be a multiple of {smallest}, as {len(self.multipliers)} multipliers ask.")
        if any(width % self.head_channels for width in self.list_channels()):
            raise ValueError(f"head_channels is {self.head_channels}, but the channels of every size must be multiples of it.")
        if self.text_width % self.text_heads:
            raise ValueError(f"text_heads is {self.text_heads}, but text_width, {self.text_width}, must be a multiple of it.")

    @property
    def in_channels(self) -> int:
        """The noisy picture's, and those of the picture that is made larger."""
        return 6 if self.low_res_size else 3

    def list_channels(self) -> list[int]:
        """List the channels of each size, the largest picture's first."""
        return [self.channels * multiplier for multiplier in self.multipliers]


OFFICIAL_BASE = GlideShape(
    image_size=64,
    low_res_size=0,
    channels=192,
    multipliers=(1, 2, 3, 4),
    num_res_blocks=3,
    attention_sizes=(32, 16, 8),
    head_channels=64,
    schedule="squaredcos_cap_v2",
    text_tokens=128,
    text_width=512,
    text_layers=16,
    text_heads=8,
    vocabulary=50257,
)
OFFICIAL_UPSAMPLER = replace(OFFICIAL_BASE, image_size=256, low_res_size=64, multipliers=(1, 1, 2, 2, 4, 4), num_res_blocks=2, schedule="linear")


@config_dataclass
class GlideShapes:
    """Both models."""

    base: GlideShape
    upsample: GlideShape


OFFICIAL = GlideShapes(base=OFFICIAL_BASE, upsample=OFFICIAL_UPSAMPLER)


def read_shapes(folder: Path) -> GlideShapes:
    """Return the shapes that the folder's `config.json` gives, or the official ones where there is none; ValueError says what is wrong in it."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        return OFFICIAL
    document = read_json(path)
    if not isinstance(document, dict) or set(document) != {"base", "upsample"}:
        raise ValueError(f"{path} must hold two blocks, `base` and `upsample`.")
    shapes = GlideShapes(**{name: build_config(block, GlideShape, where=f"{path}: {name}") for name, block in document.items()})
    if shapes.base.low_res_size or shapes.upsample.low_res_size != shapes.base.image_size:
        raise ValueError(f"{path}: low_res_size must be 0 in `base` and base's image_size, {shapes.base.image_size}, in `upsample`.")
    return shapes
