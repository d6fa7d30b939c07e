"""Models that cost nothing and catalogues of any size, for measuring what the pipeline itself needs."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.models.text_budget import UNBOUNDED

WIDTH = 768  # of a CLIP or ViT vector


class StandInCaptioner:
    """Names the first pixel."""

    def caption(self, images: Sequence[Image.Image], *, prompt: str | None, num_beams: int, max_new_tokens: int) -> list[str]:
        return [f"a picture that begins with {image.getpixel((0, 0))}" for image in images]


class StandInEncoder:
    """Gives an image or a text a unit vector that its first pixel or its length decides."""

    text_budget = UNBOUNDED

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return self._encode([image.getpixel((0, 0)) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return self._encode([(len(text), 1, 2) for text in texts])

    def _encode(self, triples: Sequence[tuple[int, ...]]) -> torch.Tensor:
        waves = torch.outer(torch.tensor(triples, dtype=torch.float32) @ torch.tensor([1.0, 3.0, 7.0]) + 1, torch.arange(1.0, WIDTH + 1))
        return torch.nn.functional.normalize(torch.sin(waves), dim=1)


def make_image(index: int, *, padding: int = 0) -> bytes:
    """Encode a small image of its own, followed by as many zero bytes, which no decoder looks at."""
    buffer = io.BytesIO()
    red, green, blue, rest = struct.pack(">I", index)
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8], pixels[8:] = rest, rest ^ 128  # two halves: a blank image would be refused
    pixels[0, 0] = (red ^ blue, green, blue)
    pixels[1, 1] = (red, green, rest)
    Image.fromarray(pixels).save(buffer, format="BMP")
    return buffer.getvalue() + b"\0" * padding


def write_images(folder: Path, count: int, *, num_bytes: int) -> None:
    """Write files of `num_bytes` each; their zeros take no place on the disk."""
    folder.mkdir(parents=True)
    for index in range(count):
        with (folder / f"{index:06d}.bmp").open("wb") as file:
            file.write(make_image(index))
            file.truncate(num_bytes)
