"""Bytes to RGB images and back, with one explicit policy for broken, huge and odd files.

An image that breaks the policy raises ImageError with one sentence for a person: what is wrong, and which limit applies.
Size is checked in the file's header, before any pixel is decoded. What is decodable becomes 8-bit RGB: EXIF rotation applied,
transparency laid on white, the first frame of an animation, colour profiles ignored.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")  # Pillow's other decoders are many, old and rarely needed
MAX_BYTES = 32 * 1024 * 1024  # of the file; a 50 megapixel JPEG has about 20 MiB
MAX_PIXELS = 50_000_000  # width x height, 150 MB as RGB; the largest common phone picture has 48 million
MAX_ASPECT = 50  # longer side over shorter side; beyond that a square 224 px view shows nothing
MAX_DECODE_THREADS = 8
WHITE = (255, 255, 255)


class ImageError(ValueError):
    """An image that breaks the policy; the message is one sentence."""


class ImageReader(Protocol):
    """Where encoded images come from, some at a time: a table on disk (`pipeline.table_images.ImageColumn`), which need not fit into memory."""

    def read(self, keys: Sequence[str]) -> dict[str, bytes]: ...


def decode_image(data: bytes) -> Image.Image:
    """Decode bytes as an 8-bit RGB image without metadata; ImageError says what is wrong with them."""
    if not data:
        raise ImageError("The image is empty (0 bytes).")
    if len(data) > MAX_BYTES:
        raise ImageError(f"The image file is larger than the allowed {MAX_BYTES:,} bytes.")
    with _open_image(data) as image:
        _check_size(*image.size)
        try:
            image.load()  # raises on truncated data, for which Pillow must not be told to look the other way
            rgb = _convert_to_rgb(_apply_orientation(image))
        except MemoryError:  # the machine's fault, not the file's
            raise
        except Exception as error:  # decoders raise many kinds on hostile data
            raise ImageError(f"The {image.format} image is damaged or truncated ({_first_line(error)}).") from error
    rgb.info = {}
    return rgb


def decode_batch(batch: Sequence[bytes]) -> tuple[list[Image.Image], dict[int, str]]:
    """Decode images in parallel; a broken one becomes a white placeholder (batches keep their shape) and its reason is kept by index."""
    with ThreadPoolExecutor(max_workers=min(MAX_DECODE_THREADS, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(_decode_or_explain, batch))
    reasons = {i: str(outcome) for i, outcome in enumerate(outcomes) if isinstance(outcome, ImageError)}
    images = [Image.new("RGB", (64, 64), WHITE) if isinstance(outcome, ImageError) else outcome for outcome in outcomes]
    return images, reasons


def encode_png(image: Image.Image) -> bytes:
    """Encode an image as 8-bit RGB PNG without metadata; equal pixels give equal bytes."""
    clean = Image.fromarray(np.asarray(image.convert("RGB")))
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _decode_or_explain(data: bytes) -> Image.Image | ImageError:
    try:
        return decode_image(data)
    except ImageError as error:
        return error


def _open_image(data: bytes) -> Image.Image:
    """Read the header only."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # some library's global switch would let half images pass as whole ones
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"The image has far more than the allowed {MAX_PIXELS:,} pixels.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"The file is not an image of a known format ({', '.join(FORMATS)}), or its header is damaged.") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise ImageError(f"The image's header is damaged ({_first_line(error)}).") from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"The image has no pixels ({width} x {height}).")
    if width * height > MAX_PIXELS:
        raise ImageError(f"The image has {width} x {height} pixels, more than the allowed {MAX_PIXELS:,}.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"The image has {width} x {height} pixels; one side is more than {MAX_ASPECT} times the other.")


def _apply_orientation(image: Image.Image) -> Image.Image:
    """Rotate as the EXIF tag says; unreadable EXIF data counts as none, for the pixels are sound."""
    with contextlib.suppress(OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return ImageOps.exif_transpose(image)
    return image


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: convert() would clip instead of scale
        image = Image.fromarray((np.clip(np.asarray(image, dtype=np.float64), 0, 65535) / 257 + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*WHITE, 255)), rgba)
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".") if lines else "") or type(error).__name__
