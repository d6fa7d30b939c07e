"""Items tables with good, odd and broken images, for the tests of every stage that decodes images."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.artifacts import build_table
from pipeline.schemas import ITEMS

REJECTED = {"blank", "bomb", "pixel", "text", "truncated", "zero"}


class TableImages:
    """The images of a table that is in memory."""

    def __init__(self, table: pa.Table, key: str = "item_id") -> None:
        self.images = {row[key]: row["image"]["bytes"] for row in table.to_pylist()}

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the encoded image of every key."""
        return {key: self.images[key] for key in keys}


def save_image(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def draw_noise(seed: int, size: int = 32) -> Image.Image:
    """Draw an image that compresses badly, so that half of its file is half of its pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def draw_halves(color: object, size: int = 16) -> Image.Image:
    """Draw an image whose left half has this colour, on black: the least that is not blank."""
    image = Image.new("RGB", (size, size))
    image.paste(color, (0, 0, size // 2, size))
    return image


def build_chunk(name: bytes, body: bytes, *, sound: bool = True) -> bytes:
    """Build a PNG chunk; an unsound one has a wrong checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ (not sound))


def build_png(width: int, height: int, *, depth: int = 8, color: int = 2, pixels: bytes = b"", before: bytes = b"", after: bytes = b"") -> bytes:
    """Build a PNG by hand, so that its header can claim anything, with chunks before and after its pixels."""
    header = build_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + build_chunk(b"IDAT", zlib.compress(pixels)) + after + build_chunk(b"IEND", b"")


def build_exif(entries: Sequence[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """Build EXIF data from raw entries (tag, type, count, four bytes of value), whatever they mean."""
    table = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + start + struct.pack(f"{order}IH", 8, len(entries)) + table + b"\0" * 4


def build_odd_images() -> dict[str, bytes]:
    """Build one image of every odd kind; those of `REJECTED` break the policy."""
    good = save_image(draw_noise(0))
    frames = [draw_halves(color) for color in ("red", "blue")]
    return {
        "animated": save_image(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "blank": save_image(Image.new("RGB", (64, 64), "beige"), "JPEG"),
        "bomb": build_png(30_000, 30_000, depth=1, color=0),
        "cmyk": save_image(draw_halves("red").convert("CMYK"), "JPEG"),
        "palette": save_image(draw_noise(1).convert("P")),
        "pixel": save_image(Image.new("RGBA", (1, 1)), "GIF"),
        "text": b"this is no image",
        "truncated": good[: len(good) // 2],
        "zero": b"",
    }


def build_item(item_id: str, image: bytes, *, text: str, category: str) -> dict[str, Any]:
    """Build one row of the items table."""
    digest = hashlib.sha256(image).hexdigest()
    return {"item_id": item_id, "image": {"bytes": image, "path": None}, "text": text, "category": category, "image_sha256": digest}


def build_items(num_good: int = 0, *, odd: bool = True) -> pa.Table:
    """Build an items table of `num_good` distinct noise images and, if asked, every odd image."""
    images = {f"good-{i:04d}": save_image(draw_noise(100 + i)) for i in range(num_good)} | (build_odd_images() if odd else {})
    return build_table([build_item(name, data, text=f"the {name} <b>item</b>", category="test") for name, data in images.items()], ITEMS)
