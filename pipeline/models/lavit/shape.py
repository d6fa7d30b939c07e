"""How large LaVIT's own networks are: the official sizes, or those that `lavit.json` beside the weights gives.

The language model and the diffusion models say themselves how large they are.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Count, config_dataclass
from pipeline.json_files import read_json
from pipeline.params import build_config

CONFIG_NAME = "lavit.json"


@config_dataclass
class LavitShape:
    """Vision tower, visual tokenizer and decoder have one width, and as many places as the picture has patches."""

    image_size: Count  # px that a picture is resized to
    patch_size: Count  # px
    width: Count
    heads: Count
    mlp_width: Count
    vision_layers: Count
    vision_classes: Count  # of the vision tower's head, which nothing here uses
    merger_layers: Count
    decoder_layers: Count
    num_codes: Count
    code_width: Count
    text_tokens: Count  # of the language model's vocabulary; the visual one follows it
    lowres_width: Count  # of the low-resolution diffusion model's condition
    highres_widths: tuple[Count, Count]  # of both parts of the high-resolution one's condition
    pooled_width: Count  # of its one vector

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}, but it must be a multiple of patch_size, {self.patch_size}.")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, but it must be a multiple of heads, {self.heads}.")
        if self.width % 4:
            raise ValueError(f"width is {self.width}, but it must be a multiple of 4.")

    @property
    def num_patches(self) -> int:
        """Patches of a picture: as many codes as it has at most, and as many states of its condition."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def image_start(self) -> int:
        """The language model's id before a picture's codes."""
        return self.text_tokens

    @property
    def image_end(self) -> int:
        """The language model's id behind a picture's codes."""
        return self.text_tokens + 1

    @property
    def first_code(self) -> int:
        """The language model's id of code 0."""
        return self.text_tokens + 2

    @property
    def vocabulary(self) -> int:
        """Ids of the language model: words, both marks and codes."""
        return self.first_code + self.num_codes


OFFICIAL = LavitShape(
    image_size=224,
    patch_size=14,
    width=1408,
    heads=16,
    mlp_width=6144,
    vision_layers=40,
    vision_classes=1024,
    merger_layers=12,
    decoder_layers=12,
    num_codes=16384,
    code_width=32,
    text_tokens=32000,
    lowres_width=768,
    highres_widths=(768, 1280),
    pooled_width=1280,
)


def read_shape(folder: Path) -> LavitShape:
    """Return the shape that the folder's `lavit.json` gives, or the official one where there is none; ValueError says what is wrong in it."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        return OFFICIAL
    document = read_json(path)
    if not isinstance(document, dict):
        raise ValueError(f"{path} must hold LaVIT's sizes by their names.")
    return build_config(document, LavitShape, where=str(path))
