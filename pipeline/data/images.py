"""Bytes to RGB images and back, by the image policy (`image_policy.py`): the only place that opens an image.

`decode_image` is for pictures from outside: what it returns can be looked at and captioned. `decode_drawing` is for what our own models drew,
where a blank picture is a result like any other. Both give the same pixels.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL import ImageFile as PillowFile

from pipeline.data.file_kinds import name_kind
from pipeline.data.image_files import ImageFile, strip_metadata
from pipeline.data.image_pixels import clear_outside, convert_to_rgb, scale_colour_key, turn
from pipeline.data.image_policy import (
    FORMATS,
    FRAME_BYTES,
    MAX_BYTES,
    MAX_DECODED_BYTES,
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    MAX_PIXELS,
    WHITE,
    ImageError,
    check_content,
    check_memory,
    check_size,
    is_blank,
)

MAX_DECODE_THREADS = 8
UNWRITTEN = (128, 128, 128)  # what a JPEG decoder leaves where there are no data
PNG_DEPTH = 24  # place of the bits a channel in a PNG

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow's limit is higher than ours

Decode = Callable[[bytes], Image.Image]


class ImageReader(Protocol):
    """Where encoded images come from, some at a time: a table on disk (`pipeline.table_images.ImageColumn`), which need not fit into memory."""

    def read(self, keys: Sequence[str]) -> dict[str, bytes]: ...


def decode_image(data: bytes) -> Image.Image:
    """Decode a picture as 8-bit RGB without metadata; ImageError says why it cannot be used."""
    image = decode_drawing(data)
    check_content(image)
    return image


def decode_drawing(data: bytes) -> Image.Image:
    """Decode an image that may be blank or small, such as one that we drew; ImageError says what is wrong with the file."""
    if not data:
        raise ImageError("The image is empty (0 bytes).")
    if len(data) > MAX_BYTES:
        raise ImageError(f"The image file is larger than the allowed {MAX_BYTES:,} bytes.")
    file = strip_metadata(data)
    for look in _iterate_looks(file):
        if not is_blank(look):
            _check_end(file, look)
            return turn(look, file.orientation)
        del look  # the next one needs its memory
    return turn(next(_iterate_looks(file)), file.orientation)


def decode_batch(batch: Sequence[bytes], decode: Decode = decode_image) -> tuple[list[Image.Image], dict[int, str]]:
    """Decode images in parallel; a broken one becomes a white placeholder (batches keep their shape) and its reason is kept by index."""

    def decode_or_explain(data: bytes) -> Image.Image | ImageError:
        try:
            return decode(data)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(max_workers=min(MAX_DECODE_THREADS, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(decode_or_explain, batch))
    reasons = {i: str(outcome) for i, outcome in enumerate(outcomes) if isinstance(outcome, ImageError)}
    images = [Image.new("RGB", (64, 64), WHITE) if isinstance(outcome, ImageError) else outcome for outcome in outcomes]
    return images, reasons


def encode_png(image: Image.Image) -> bytes:
    """Encode an image as 8-bit RGB PNG without metadata; equal pixels give equal bytes."""
    clean = Image.fromarray(np.asarray(image.convert("RGB")))
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _iterate_looks(file: ImageFile) -> Iterator[Image.Image]:
    """Yield what a file may show, the likeliest first: its first frame, its later frames, its colours without their transparency."""
    with _open_image(file.data) as image, _blame_file(image):
        box = _load(image, file.first_frame)
        is_transparent = image.has_transparency_data
        rgb = clear_outside(convert_to_rgb(image), box)
    del image  # before a turned copy is made
    yield rgb
    del rgb
    if file.frames:
        yield from _iterate_later_frames(file.frames)
    if is_transparent:
        with _open_image(file.data) as image, _blame_file(image):
            box = _load(image, file.first_frame)
            rgb = clear_outside(convert_to_rgb(image, keep_alpha=False), box)
        yield rgb


def _load(image: Image.Image, first_frame: tuple[int, int, int, int] | None) -> tuple[int, int, int, int]:
    """Decode the first frame, if the policy allows, and return its box."""
    check_size(*image.size)
    check_memory(image)
    box = first_frame or (image.tile[0].extents if image.format == "GIF" and image.tile else (0, 0, *image.size))
    image.load()  # raises on truncated data, for which Pillow must not be told to look the other way
    return box


@contextmanager
def _blame_file(image: Image.Image) -> Iterator[None]:
    """Make an ImageError of whatever a decoder raises."""
    try:
        yield
    except (ImageError, MemoryError):  # which is the machine's fault, not the file's
        raise
    except Exception as error:  # decoders raise many kinds on hostile data
        raise ImageError(f"The {image.format} image is damaged or truncated ({_first_line(error)}).") from error


def _check_end(file: ImageFile, look: Image.Image) -> None:
    """Refuse a JPEG that was cut off: its decoder makes the missing part grey, or of whatever follows, and says nothing."""
    is_suspect = file.scan_end is not None and (not file.has_end or look.getpixel((look.width - 1, look.height - 1)) == UNWRITTEN)
    if is_suspect and _hash_pixels(file.data) != _hash_pixels(file.disturb_end()):
        raise ImageError("The JPEG image is damaged or truncated (its last rows are missing).")


def _hash_pixels(data: bytes) -> bytes:
    """Return a hash of the decoded pixels."""
    with _open_image(data) as image, _blame_file(image):
        image.load()
        return hashlib.sha256(np.asarray(image).data).digest()


def _iterate_later_frames(data: bytes) -> Iterator[Image.Image]:
    """Yield an animation's frames from the second on; a damaged one ends it."""
    with _open_image(data) as image:
        for number in range(1, MAX_FRAMES):
            try:
                image.seek(number)
                check_size(*image.size)  # a frame of a GIF can enlarge it
                pixels = image.width * image.height
                if FRAME_BYTES * pixels > MAX_DECODED_BYTES or number * pixels > MAX_FRAME_PIXELS:
                    return
                image.load()
                rgb = convert_to_rgb(image)
            except MemoryError:
                raise
            except Exception:  # the end (EOFError), or damage
                return
            yield rgb
            del rgb


def _open_image(data: bytes) -> Image.Image:
    """Read the header only."""
    if PillowFile.LOAD_TRUNCATED_IMAGES:  # some library's global switch would let half images pass as whole ones
        PillowFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"The image has far more than the allowed {MAX_PIXELS:,} pixels.") from error
    except UnidentifiedImageError as error:
        if kind := name_kind(data):
            raise ImageError(f"The file is {kind}, but it must be an image of a known format ({', '.join(FORMATS)}).") from error
        raise ImageError(f"The file is not an image of a known format ({', '.join(FORMATS)}), or its header is damaged.") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many kinds on hostile data
        raise ImageError(f"The image's header is damaged ({_first_line(error)}).") from error
    if image.format == "PNG":
        scale_colour_key(image, data[PNG_DEPTH])
    return image


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".") if lines else "") or type(error).__name__
