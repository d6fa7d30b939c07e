"""How large GLIDE's two models are: the official sizes, or those that `config.json` beside the weights gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Len, Lt, MultipleOf
from pydantic import TypeAdapter, ValidationError

from pipeline.config import Count, config_dataclass
from pipeline.json_files import read_json

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
OFFICIAL_UPSAMPLER = replace(
    OFFICIAL_BASE, image_size=256, low_res_size=64, multipliers=(1, 1, 2, 2, 4, 4), num_res_blocks=2, schedule="linear"
)


def read_shapes(folder: Path) -> tuple[GlideShape, GlideShape]:
    """Return the shapes of base model and upsampler: those of the folder's `config.json`, or the official ones where there is none."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        return OFFICIAL_BASE, OFFICIAL_UPSAMPLER
    document = read_json(path)
    if not isinstance(document, dict) or set(document) != {"base", "upsample"}:
        raise ValueError(f"{path} must hold the sizes of two models, `base` and `upsample`")
    base, upsampler = (build_shape(document[name], where=f"{path}: {name}") for name in ("base", "upsample"))
    if base.low_res_size or upsampler.low_res_size != base.image_size:
        raise ValueError(f"{path}: low_res_size must be 0 for `base` and base's image_size, {base.image_size}, for `upsample`")
    return base, upsampler


def build_shape(values: object, *, where: str) -> GlideShape:
    """Check the sizes of one model."""
    try:
        shape = TypeAdapter(GlideShape).validate_json(_write_json(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {name or 'it'} is wrong ({first['msg']})") from error
    smallest = 2 ** (len(shape.multipliers) - 1)
    if shape.image_size % smallest or any(width % shape.head_channels for width in shape.list_channels()) or shape.text_width % shape.text_heads:
        raise ValueError(
            f"{where}: image_size must divide by {smallest}, the channels by head_channels, and text_width by text_heads, but they do not all"
        )
    return shape


def _write_json(values: object) -> str:
    """Write values as JSON again: in it a list is a tuple, as strict types otherwise deny."""
    import json

    return json.dumps(values)
