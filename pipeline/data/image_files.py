"""What of an image file decides its pixels: its metadata are taken out, and its EXIF orientation is kept.

So a decoder never reads texts, profiles and previews, which may be broken, huge or hostile although the pixels are sound. What decides pixels
stays as it is; only the decoder judges it, but for the checksums of a PNG's chunks, which Pillow does not compare.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.data.image_policy import ImageError

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
PNG_FRAMES = {b"acTL", b"fcTL", b"fdAT"}
WEBP_PIXELS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
WEBP_METADATA = 0x20 | 0x08 | 0x04  # flags in VP8X: a colour profile, EXIF, XMP
SHORTEST = {0xE0: 16, 0xEE: 14}  # JPEG segments that may decide the colours, and the bytes that they must have: JFIF, Adobe

END_OF_JPEG = b"\xff\xd9"
FILLER = b"\xa5\x5a\xc3\x3c" * 256  # behind a scan that is whole, no decoder looks at it
GREY, COLOUR, PALETTE = 0, 2, 3  # colour types of PNG
KEY_BYTES = {GREY: 2, COLOUR: 6}  # of a transparent colour

ORIENTATION, SHORT = 0x0112, 3  # EXIF's tag and the type that it must have


@dataclass(frozen=True)
class ImageFile:
    """A file without its metadata; `frames` is the same with its animation, where it is one."""

    data: bytes
    orientation: int = 1
    frames: bytes | None = None
    first_frame: tuple[int, int, int, int] | None = None  # box of it in the canvas, where the header says so (WebP)
    scan_end: int | None = None  # where the pixels end (JPEG)
    has_end: bool = True  # whether it says so itself (JPEG)

    def disturb_end(self) -> bytes:
        """Return the file with other bytes behind its pixels: if a decoder shows another picture, it missed some."""
        return self.data[: self.scan_end] + FILLER + self.data[self.scan_end :]


def strip_metadata(data: bytes) -> ImageFile:
    """Take out what does not decide pixels; ImageError if a part that does has a wrong checksum."""
    if data.startswith(PNG):
        return strip_png(data)
    if data.startswith(JPEG):
        return strip_jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return strip_webp(data)
    return ImageFile(data, frames=data if data.startswith(b"GIF8") else None)


def strip_png(data: bytes) -> ImageFile:
    """Keep the chunks that a PNG decoder must know. A chunk of frames with a wrong checksum makes a still image of an animation."""
    still, moving, exif = [PNG], [PNG], b""
    animated, seen, colour = False, set(), data[25] if len(data) > 25 else GREY
    for name, body, chunk, is_sound in iterate_png_chunks(data):
        if name == b"tRNS" and (b"IDAT" in seen or len(body) != KEY_BYTES.get(colour, len(body)) or not body):
            continue  # as browsers do
        seen.add(name)
        if not name[0] & 0x20 or name in PNG_PIXELS:  # a capital letter: no decoder may skip it
            if not is_sound:
                raise ImageError(f"The PNG image is damaged or truncated (the checksum of its chunk {name.decode('ascii')} is wrong).")
            still.append(chunk)
            moving.append(chunk)
        elif name in PNG_FRAMES:
            animated = is_sound and (animated or name == b"acTL")
            moving.append(chunk)
        elif name == b"eXIf" and is_sound:
            exif = exif or body
    if colour == PALETTE and b"PLTE" not in seen:
        raise ImageError("The PNG image is damaged (its palette is missing).")
    end = build_png_chunk(b"IEND", b"")
    return ImageFile(b"".join([*still, end]), read_orientation(exif), b"".join([*moving, end]) if animated else None)


def iterate_png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Yield name, body, whole chunk and whether its checksum is right, up to IEND or to what is no chunk."""
    position, seen = len(PNG), False
    if data[len(PNG) + 4 : len(PNG) + 8] != b"IHDR":
        raise ImageError("The PNG image's header is damaged (its first chunk is not IHDR).")
    while position + 8 <= len(data):
        (length,), name = struct.unpack_from(">I", data, position), data[position + 4 : position + 8]
        if name == b"IEND" or not name.isalpha():
            return
        end = position + 12 + length
        body, chunk = data[position + 8 : end - 4], data[position:end]
        if end <= len(data):
            yield name, body, chunk, zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        elif name == b"IDAT":  # cut off: perhaps behind its last pixel, which the decoder will know
            yield name, body[:length], build_png_chunk(name, body[:length]), True
        elif not seen:
            raise ImageError(f"The PNG image is damaged or truncated (it ends within its chunk {name.decode('ascii')}).")
        position, seen = end, seen or name == b"IDAT"


def build_png_chunk(name: bytes, body: bytes) -> bytes:
    """Frame a chunk's body with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def strip_jpeg(data: bytes) -> ImageFile:
    """Drop comments and application segments up to the first scan, but for those that decide the colours."""
    kept, position, exif = [data[:2]], 2, b""
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding before a marker
            position += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA:  # the scan, or what is no segment
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position:end]
        if marker == 0xE1 and segment[4:10] == b"Exif\0\0":
            exif = exif or segment[4:]
        is_metadata = marker == 0xFE or 0xE0 <= marker <= 0xEF
        if not is_metadata or len(segment) >= SHORTEST.get(marker, len(data)):
            kept.append(segment)
        position = max(end, position + 4)
    head, scans = b"".join(kept), data[position:]
    length = scans.find(END_OF_JPEG)
    if length < 0:  # half of it may be there, or a disk's zeros instead
        scans = scans[: len(scans.rstrip(b"\0")) + 2].removesuffix(b"\xff")
        return ImageFile(head + scans + END_OF_JPEG, read_orientation(exif), scan_end=len(head) + len(scans), has_end=False)
    return ImageFile(head + scans, read_orientation(exif), scan_end=len(head) + length)


def strip_webp(data: bytes) -> ImageFile:
    """Keep the chunks of pixels; a WebP that ends within another chunk is whole."""
    kept, position, exif, box = [b"WEBP"], 12, b"", None
    while position + 8 <= len(data):
        name, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + length + length % 2
        chunk = data[position:end]
        if name in WEBP_PIXELS and len(chunk) < 8 + length:
            if box:  # within a later frame of an animation
                break
            raise ImageError(f"The WEBP image is damaged or truncated (it ends within its chunk {name.decode('ascii').strip()}).")
        if name == b"VP8X":
            kept += [chunk[:8], bytes([chunk[8] & ~WEBP_METADATA]) if len(chunk) > 8 else b"", chunk[9:]]
        elif name in WEBP_PIXELS:
            kept.append(chunk.ljust(end - position, b"\0"))  # the last one's padding may be missing
            if name == b"ANMF" and box is None and len(chunk) >= 20:
                left, top, width, height = (int.from_bytes(chunk[at : at + 3], "little") for at in (8, 11, 14, 17))
                box = 2 * left, 2 * top, 2 * left + width + 1, 2 * top + height + 1
        elif name == b"EXIF":
            exif = exif or chunk[8:]
        position = end
    body = b"".join(kept)
    whole = b"RIFF" + len(body).to_bytes(4, "little") + body
    return ImageFile(whole, read_orientation(exif), whole if box else None, box)


def read_orientation(exif: bytes) -> int:
    """Return EXIF's orientation, 1 to 8, or 1 where there is none; no other tag is read, so none can be in the way."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for index in range(count):
            tag, kind, number, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * index)
            if (tag, kind, number) == (ORIENTATION, SHORT, 1) and 1 <= value <= 8:
                return value
    except struct.error:  # the table ends early
        pass
    return 1
