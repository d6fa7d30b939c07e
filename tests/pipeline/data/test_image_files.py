"""Broken parts of image files that hold no pixels, and broken pixels. Run: `python -m pytest tests/pipeline/data/test_image_files.py`."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipeline.data.images import ImageError, decode_image
from tests.broken_items import build_chunk, build_exif, build_png, draw_noise, save_image

NOISE = draw_noise(0, 24)
ROWS = b"".join(b"\0" + row.tobytes() for row in np.asarray(NOISE))
BOMB = zlib.compress(b"\0" * 80_000_000, 9)  # 80 kB

HARMLESS = {
    "a text of 3 MB, compressed": build_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"{" * 3_000_000)),
    "an international text of 3 MB": build_chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"{" * 3_000_000)),
    "80 texts of 1 MB": build_chunk(b"zTXt", b"prompt\0\0" + zlib.compress(b"{" * 1_000_000)) * 80,
    "a text that is a bomb": build_chunk(b"zTXt", b"bomb\0\0" + BOMB),
    "a profile that is a bomb": build_chunk(b"iCCP", b"bomb\0\0" + BOMB),
    "a text with a wrong checksum": build_chunk(b"tEXt", b"Title\0cat", sound=False),
    "a profile with a wrong checksum": build_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(b"x" * 100), sound=False),
    "a profile that is none": build_chunk(b"iCCP", b"x"),
    "a resolution with a wrong checksum": build_chunk(b"pHYs", b"\0" * 9, sound=False),
    "a resolution that is too short": build_chunk(b"pHYs", b"\0"),
    "a gamma that is too short": build_chunk(b"gAMA", b""),
    "EXIF with a wrong checksum": build_chunk(b"eXIf", build_exif([(0x0112, 3, 1, b"\x06")])[6:], sound=False),
    "frames of no animation": build_chunk(b"acTL", b"\0" * 8),
    "frames with a wrong checksum": build_chunk(b"acTL", struct.pack(">II", 2, 0), sound=False),
    "a chunk of frames that is too short": build_chunk(b"acTL", struct.pack(">II", 2, 0)) + build_chunk(b"fcTL", b""),
    "a private chunk": build_chunk(b"vpAg", b"\xff" * 9, sound=False),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_a_png_with_an_odd_chunk_beside_its_pixels_is_whole(kind: str) -> None:
    for place in ("before", "after"):
        data = build_png(24, 24, pixels=ROWS, **{place: HARMLESS[kind]})
        assert decode_image(data).tobytes() == NOISE.tobytes()


def test_a_workflow_written_by_a_library_is_no_obstacle() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", '{"nodes": []}' * 200_000, zip=True)
    assert decode_image(save_image(NOISE, pnginfo=info)).tobytes() == NOISE.tobytes()


PNG = build_png(24, 24, pixels=ROWS)
TEXT = build_chunk(b"tEXt", b"Title\0cat")
ENDS = {
    "no IEND": PNG[:-12],
    "half an IEND": PNG[:-5],
    "a cut checksum of the pixels": PNG[:-14],
    "a wrong checksum of IEND": PNG[:-1] + b"x",
    "a cut text behind the pixels": PNG[:-12] + TEXT[:-6],
    "a cut length": PNG[:-12] + b"\0\0",
    "a length beyond the end": PNG[:-12] + b"\x7f\xff\xff\xff" + TEXT[4:],
    "zeros": PNG[:-12] + b"\0" * 1000,
    "junk behind IEND": PNG + b"junk" * 1000,
    "another picture behind IEND": PNG + save_image(draw_noise(1)),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_stands_behind_a_png_s_pixels_does_not_matter(end: str) -> None:
    assert decode_image(ENDS[end]).tobytes() == NOISE.tobytes()


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


PALETTE = save_image(NOISE.quantize(8), transparency=3)
DAMAGED = {
    "a flipped bit in the pixels": flip(PNG, PNG.index(b"IDAT") + 100),
    "a wrong checksum of the pixels": flip(PNG, len(PNG) - 13),
    "a flipped bit in a palette": flip(PALETTE, PALETTE.index(b"PLTE") + 10),
    "a flipped bit in a palette's alpha": flip(PALETTE, PALETTE.index(b"tRNS") + 4),
    "a flipped bit in the header": flip(PNG, 20),
    "no pixels": PNG[:33] + PNG[-12:],
    "an end within a text before the pixels": PNG[:33] + TEXT[:-6],
    "an end within the pixels": PNG[:-50],
    "an Apple PNG": PNG[:8] + build_chunk(b"CgBI", b"\0\0\0\2") + PNG[8:],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_png_with_damaged_pixels_is_refused(kind: str) -> None:
    with pytest.raises(ImageError, match=r"^The (PNG image|image's header).*(damaged|truncated).*\.$|^The file is not an image"):
        decode_image(DAMAGED[kind])


# Other formats

SEGMENT = struct.Struct(">HH")


def add_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + SEGMENT.pack(marker, len(body) + 2) + body + data[2:]


@pytest.mark.parametrize(("marker", "body"), [
    (0xFFE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), (0xFFE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"), (0xFFE2, b"ICC_PROFILE\0\2\1"),
    (0xFFE2, b"MPF\0II*\0"),
    (0xFFED, b"Photoshop 3.0\x008BIM\x04"), (0xFFE0, b"JFIF\0"), (0xFFEE, b"Adobe"), (0xFFFE, b"\xff" * 60_000), (0xFFE0, b""),
])  # fmt: skip
def test_a_jpeg_with_a_broken_segment_keeps_its_pixels(marker: int, body: bytes) -> None:
    plain = save_image(NOISE, "JPEG")
    assert decode_image(add_segment(plain, marker, body)).tobytes() == decode_image(plain).tobytes()


def test_an_orientation_in_xmp_is_not_applied_as_browsers_do_not() -> None:
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    plain = save_image(NOISE.crop((0, 0, 24, 16)), "JPEG")
    assert decode_image(add_segment(plain, 0xFFE1, xmp)).size == (24, 16)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP", "BMP"])
def test_junk_behind_the_end_does_not_matter(kind: str) -> None:
    plain = save_image(NOISE, kind)
    for junk in (b"\0" * 5000, b"<html>", plain):
        assert decode_image(plain + junk).tobytes() == decode_image(plain).tobytes()


def test_a_gif_without_its_trailer_is_whole() -> None:
    plain = save_image(NOISE, "GIF")
    assert decode_image(plain[:-1]).tobytes() == decode_image(plain).tobytes()


def test_a_webp_is_whole_without_its_metadata_and_refused_without_its_pixels() -> None:
    options = {"lossless": True, "exif": build_exif([(0x0112, 3, 1, b"\x01")])}
    data = save_image(NOISE, "WEBP", **options)
    assert data[12:16] == b"VP8X"
    for broken in (data[:-3], data[: data.index(b"EXIF") + 3], data[: data.index(b"EXIF")] + b"EXIF\xff\xff\xff\x7f"):
        assert decode_image(broken).tobytes() == NOISE.tobytes()
    with pytest.raises(ImageError, match=r"^The WEBP image is damaged or truncated \(it ends within its chunk VP8L\)\.$"):
        decode_image(data[: data.index(b"EXIF") - 40])


def test_a_webp_with_alpha_and_metadata_keeps_both_chunks_that_matter() -> None:
    image = NOISE.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(NOISE.size))
    plain = save_image(image, "WEBP", quality=80)
    described = save_image(image, "WEBP", quality=80, xmp=b"<x>", icc_profile=b"no profile", exif=build_exif([]))
    assert decode_image(described).tobytes() == decode_image(plain).tobytes()


# JPEG: where the pixels end


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_without_its_end_mark_is_whole_and_a_cut_one_is_not(options: dict[str, object]) -> None:
    data = save_image(draw_noise(0, 48), "JPEG", quality=90, **options)
    pixels = decode_image(data).tobytes()
    for end in (data[:-2], data[:-1], data[:-2] + b"\0" * 5000):
        assert decode_image(end).tobytes() == pixels
    for end in (data[:-400], data[:-400] + b"\0" * 5000, data[:-10]):
        with pytest.raises(ImageError, match=r"^The JPEG image is damaged or truncated \(its last rows are missing\)\.$"):
            decode_image(end)


def test_a_cut_jpeg_that_got_an_end_mark_is_refused_and_a_grey_corner_is_none() -> None:
    grey = Image.new("RGB", (48, 48), (128, 128, 128))
    grey.paste(draw_noise(0, 24), (0, 0))
    data = save_image(grey, "JPEG", quality=90)
    assert decode_image(data).getpixel((47, 47)) == (128, 128, 128)
    noise = save_image(draw_noise(0, 48), "JPEG", quality=90)
    with pytest.raises(ImageError, match="its last rows are missing"):
        decode_image(noise[: len(noise) // 2] + b"\xff\xd9")


# PNG: palettes and transparent colours

ROW = b"\0" + b"\3" * 8 + b"\x55" * 8


@pytest.mark.parametrize(
    ("color", "row", "key", "left"),
    [(0, ROW, b"\3", 3), (0, ROW, b"\0\3\0\0", 3), (0, ROW, b"\0\3", 255), (2, b"\0" + b"\3\3\3" * 8 + b"\x55" * 24, b"\3\0", 3)],
)
def test_a_transparent_colour_of_a_wrong_length_does_not_matter(color: int, row: bytes, key: bytes, left: int) -> None:
    image = decode_image(build_png(16, 16, color=color, before=build_chunk(b"tRNS", key), pixels=row * 16))
    assert (image.getpixel((0, 0)), image.getpixel((15, 0))) == ((left,) * 3, (0x55,) * 3)


def test_a_palette_s_alpha_behind_the_pixels_does_not_matter_and_a_palette_is_needed() -> None:
    palette, alpha = build_chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 0])), build_chunk(b"tRNS", b"\0\xff")
    pixels = (b"\0" + b"\0" * 8 + b"\1" * 8) * 16
    assert decode_image(build_png(16, 16, color=3, before=palette, after=alpha, pixels=pixels)).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(ImageError, match=r"^The PNG image is damaged \(its palette is missing\)\.$"):
        decode_image(build_png(16, 16, color=3, pixels=pixels))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0", "a HEIC image"),
        (b"\0\0\0\x1cftypavif\0\0", "an AVIF image"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg>', "an SVG drawing"),
        (save_image(NOISE, "TIFF"), "a TIFF image"),
        (b"8BPS\0\1", "a Photoshop image"),
        (b"<!DOCTYPE html><p>404", "a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (PNG.replace(b"\r\n", b"\n"), "a PNG image whose line ends were changed"),
        (b"\0" * 4096, "nothing but zeros"),
    ],
)
def test_a_file_of_another_kind_is_named_by_what_it_is(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=rf"^The file is {kind}.*, but it must be an image of a known format \(PNG, JPEG, GIF, WEBP, BMP\)\.$"):
        decode_image(data)
