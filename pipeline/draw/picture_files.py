"""Pictures as files in a folder: whole or not at all, in the format that was asked for; what is there already is left alone."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Literal, get_args

from pipeline.data.images import decode_drawing
from pipeline.data.stored_images import encode_image
from pipeline.files import DIGEST_DIGITS, compute_digest, write_bytes

Format = Literal["png", "webp", "jpeg"]
FORMATS: tuple[str, ...] = get_args(Format)
SUFFIXES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
OTHERS = "other-candidates"


def convert(png: bytes, picture_format: Format) -> bytes:
    """Return a drawn picture in a format: PNG as the run stores it, byte for byte; WebP without loss; JPEG of quality 95."""
    if picture_format == "png":
        return png
    image = decode_drawing(png)
    if picture_format == "jpeg":
        return encode_image(image, "jpeg")
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=True, quality=100)
    return buffer.getvalue()


def prepare_folder(folder: Path) -> None:
    """Make the folder, and remove what a killed run has left half written."""
    for place in (folder, folder / OTHERS):
        if place.is_dir():
            for leftover in place.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def put_picture(path: Path, data: bytes) -> bool:
    """Write a picture unless the file holds just these bytes; say whether it was written."""
    if path.is_file() and path.stat().st_size == len(data) and compute_digest(path) == hashlib.sha256(data).hexdigest()[:DIGEST_DIGITS]:
        return False
    write_bytes(path, data)
    return True


def list_strangers(folder: Path, named: set[str]) -> list[str]:
    """Return the pictures in a folder that the manifest does not name: of an earlier table of requests, or somebody's own."""
    found = [path for path in folder.rglob("*") if path.suffix in SUFFIXES.values() and path.is_file()]
    return sorted(name for path in found if (name := path.relative_to(folder).as_posix()) not in named)
