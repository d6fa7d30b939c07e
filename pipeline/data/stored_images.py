"""Raw image files to the bytes that the items table stores: decoded once, laid on a white square, reduced, encoded; in a process pool.

What a usable picture is and how it looks says the image policy (`image_policy.py`). The rest is DiFashion's, for fashion photographs: the picture
centred on a white square, LANCZOS. An image is never enlarged. The same file gives the same bytes whatever the number of processes.
"""

from __future__ import annotations

import errno
import io
import itertools
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image

from pipeline.data.image_policy import MAX_BYTES, WHITE, ImageError, check_content
from pipeline.data.images import decode_image, encode_png
from pipeline.runtime import progress

ImageFormat = Literal["png", "jpeg"]
JPEG_QUALITY = 95  # with full colour resolution: no visible loss
IMAGES_A_PROCESS = 100  # below this, starting a process costs more than it saves
CHUNK = 16
PART = 256


def store_images(paths: Sequence[Path], *, image_size: int, image_format: ImageFormat) -> Iterator[bytes | str]:
    """Yield, in order, the bytes to be stored of every file, or the sentence that says why there are none; few of them are in memory at once."""
    store = partial(store_image, image_size=image_size, image_format=image_format)
    workers = min(os.cpu_count() or 1, len(paths) // IMAGES_A_PROCESS)
    if workers < 2:
        yield from progress(map(store, paths), label="images", total=len(paths))
        return
    try:
        # spawn: a forked child of a process with threads (polars, pyarrow) may hang
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            # a pool's map takes all its work at once and holds what has not been fetched: it gets a part of it at a time
            parts = (pool.map(store, paths[start : start + PART], chunksize=CHUNK) for start in range(0, len(paths), PART))
            yield from progress(itertools.chain.from_iterable(parts), label="images", total=len(paths))
    except BrokenProcessPool as error:
        raise ValueError("a process that decodes images was killed, probably for lack of memory; free some and run the stage again.") from error


def store_image(path: Path, *, image_size: int, image_format: ImageFormat) -> bytes | str:
    """Return the bytes to be stored of one file, or a sentence."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        square = fit_square(decode_image(data), image_size)
        check_content(square)  # once more: fine patterns may be gone
        return encode_image(square, image_format)
    except ImageError as error:
        return str(error)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):  # the machine's fault, not the file's
            raise
        return f"The file cannot be read ({error.strerror})."


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Reduce an RGB image to at most `size` px and centre it on a white square."""
    if max(image.size) > size:
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    if image.width == image.height:
        return image
    side = max(image.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def encode_image(image: Image.Image, image_format: ImageFormat) -> bytes:
    """Encode an RGB image without metadata."""
    if image_format == "png":
        return encode_png(image)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
