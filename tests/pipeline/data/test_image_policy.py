"""What the image policy makes of odd pictures, by their pixels. Run: `python -m pytest tests/pipeline/data/test_image_policy.py`."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.data.images import ImageError, decode_image
from tests.broken_items import build_chunk, build_exif, build_png, draw_halves, draw_noise, save_image

RED, BLUE, BLACK, WHITE = (255, 0, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}}
ORIENTATION, SHORT, RATIONAL = 0x0112, 3, 10


def get_halves(data: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a pixel of the left and one of the right half."""
    image = decode_image(data)
    return image.getpixel((2, image.height // 2)), image.getpixel((image.width - 3, image.height // 2))


def build_orientation(value: int, order: str = "<") -> tuple[int, int, int, bytes]:
    return ORIENTATION, SHORT, 1, struct.pack(f"{order}H", value)


# Orientation

CORNERS = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "cadb", 7: "dbca", 8: "bdac", 0: "abcd", 9: "abcd", 65535: "abcd"}
COLOURS = {"a": RED, "b": BLUE, "c": BLACK, "d": WHITE}


def draw_corners() -> Image.Image:
    """Draw 24 x 16 px whose corners are a, b (above), c, d (below)."""
    image = Image.new("RGB", (24, 16))
    for name, place in (("a", (0, 0)), ("b", (12, 0)), ("c", (0, 8)), ("d", (12, 8))):
        image.paste(COLOURS[name], (*place, place[0] + 12, place[1] + 8))
    return image


def read_corners(data: bytes) -> str:
    image = decode_image(data)
    right, bottom = image.width - 3, image.height - 3
    found = [min(COLOURS, key=lambda name: np.abs(np.subtract(COLOURS[name], image.getpixel(place))).sum()) for place in
             ((2, 2), (right, 2), (2, bottom), (right, bottom))]  # fmt: skip
    return "".join(found)


@pytest.mark.parametrize("value", CORNERS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_orientation_is_applied_and_others_count_as_none(value: int, order: str) -> None:
    data = save_image(draw_corners(), "JPEG", quality=95, exif=build_exif([build_orientation(value, order)], order))
    assert read_corners(data) == CORNERS[value]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_format_with_exif_is_turned(kind: str) -> None:
    data = save_image(draw_corners(), kind, exif=build_exif([build_orientation(6)]), **LOSSLESS.get(kind, {}))
    assert read_corners(data) == CORNERS[6]


BROKEN_TAGS = {
    "a rational of (-1, 0) behind the picture": (0x011A, RATIONAL, 1, b"\x00\xff\xff\xff"),
    "a text that begins outside of the file": (0x010E, 2, 5_000, b"\xff\xff\xff\x7f"),
    "a type that there is not": (0x010F, 99, 1, b"\0\0\0\0"),
    "a length of four gigabytes": (0x0110, 2, 2**32 - 1, b"\x08\0\0\0"),
    "a pointer to a table that points to itself": (0x8769, 4, 1, b"\x08\0\0\0"),
}


@pytest.mark.parametrize("tag", BROKEN_TAGS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_tag_is_not_in_the_way_of_the_orientation(tag: str, kind: str) -> None:
    exif = build_exif([BROKEN_TAGS[tag], build_orientation(6)])
    assert read_corners(save_image(draw_corners(), kind, exif=exif, **LOSSLESS.get(kind, {}))) == CORNERS[6]


def test_a_camera_s_rational_of_minus_one_over_zero_leaves_the_picture_upright() -> None:
    rational = struct.pack("<ii", -1, 0)
    exif = build_exif([build_orientation(6), (0x011A, RATIONAL, 1, struct.pack("<I", 8 + 2 + 2 * 12 + 4))]) + rational
    assert read_corners(save_image(draw_corners(), "JPEG", quality=95, exif=exif)) == CORNERS[6]


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0JJ*\0\x08\0\0\0", build_exif([(ORIENTATION, 2, 1, b"\x06")])]
)
def test_exif_without_a_readable_orientation_counts_as_none(exif: bytes) -> None:
    assert read_corners(save_image(draw_corners(), "JPEG", quality=95, exif=exif)) == CORNERS[1]


# Transparency


def draw_rgba(alpha: object, *, beneath: Image.Image | None = None) -> Image.Image:
    image = (beneath or draw_halves(RED)).convert("RGBA")
    image.putalpha(alpha)
    return image


def build_bmp32(image: Image.Image) -> bytes:
    """Build a 32-bit BMP whose header has a place for alpha, as some programs write it."""
    pixels = np.asarray(image.convert("RGBA"))[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII4I", 108, *image.size, 1, 32, 3, len(pixels), 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = header.ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


INVISIBLE = {
    "bmp": lambda: build_bmp32(draw_rgba(0)),
    "png": lambda: save_image(draw_rgba(0)),
    "webp": lambda: save_image(draw_rgba(0), "WEBP", lossless=True, exact=True),
    "palette": lambda: save_image(draw_halves(RED).quantize(4), transparency=b"\0\0\0\0"),
    "nearly 0": lambda: save_image(draw_rgba(1)),
}


@pytest.mark.parametrize("kind", INVISIBLE)
def test_alpha_that_hides_the_whole_picture_was_not_meant(kind: str) -> None:
    assert get_halves(INVISIBLE[kind]()) == (RED, BLACK)


def test_grey_with_alpha_0_everywhere_and_sixteen_bits_are_shown_as_well() -> None:
    grey = draw_halves(WHITE).convert("LA")
    grey.putalpha(0)
    assert get_halves(save_image(grey)) == (WHITE, BLACK)
    row = b"\0" + struct.pack(">4H", 65535, 257 * 100, 0, 0) * 8 + struct.pack(">4H", 0, 0, 0, 0) * 8
    assert get_halves(build_png(16, 16, depth=16, color=6, pixels=row * 16)) == ((255, 100, 0), BLACK)


def test_a_white_drawing_on_a_transparent_ground_is_seen_on_the_colour_beneath() -> None:
    image = draw_rgba(255, beneath=draw_halves(WHITE))
    image.paste((0, 0, 0, 0), (8, 0, 16, 16))
    assert get_halves(save_image(image)) == (WHITE, BLACK)


@pytest.mark.parametrize("beneath", [(0, 0, 0, 0), (255, 255, 255, 0), (255, 0, 0, 0)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_empty_transparent_picture_is_blank(beneath: tuple[int, ...], kind: str) -> None:
    with pytest.raises(ImageError, match="blank"):
        decode_image(save_image(Image.new("RGBA", (32, 32), beneath), kind, **LOSSLESS.get(kind, {})))


def test_partial_alpha_lies_on_white() -> None:
    alpha = Image.new("L", (16, 16), 127)
    alpha.paste(0, (8, 0, 16, 16))
    for data in (save_image(draw_rgba(alpha)), build_bmp32(draw_rgba(alpha)), save_image(draw_rgba(alpha), "WEBP", lossless=True, exact=True)):
        assert get_halves(data) == ((255, 128, 128), WHITE)


def test_sixteen_bit_alpha_lies_on_white() -> None:
    row = b"\0" + struct.pack(">4H", 65535, 0, 0, 257 * 127) * 8 + struct.pack(">4H", 0, 0, 65535, 0) * 8
    assert get_halves(build_png(16, 16, depth=16, color=6, pixels=row * 16)) == ((255, 128, 128), WHITE)
    grey = b"\0" + struct.pack(">2H", 0, 257 * 127) * 8 + struct.pack(">2H", 0, 0) * 8
    assert get_halves(build_png(16, 16, depth=16, color=4, pixels=grey * 16)) == ((128,) * 3, WHITE)


KEYED = {  # depth and colour type of a PNG; its transparent colour; rows of that colour on the left and another on the right; the other as RGB
    "1 bit": (1, 0, struct.pack(">H", 1), b"\xff\x00", BLACK),
    "2 bits": (2, 0, struct.pack(">H", 2), b"\xaa\xaa\x55\x55", (85,) * 3),
    "4 bits": (4, 0, struct.pack(">H", 3), b"\x33" * 4 + b"\x55" * 4, (85,) * 3),
    "8 bits": (8, 0, struct.pack(">H", 3), b"\x03" * 8 + b"\x55" * 8, (85,) * 3),
    "16 bits": (16, 0, struct.pack(">H", 0x1234), b"\x12\x34" * 8 + b"\x12\x35" * 8, (18,) * 3),
    "colour": (8, 2, struct.pack(">3H", 1, 2, 3), b"\x01\x02\x03" * 8 + b"\x01\x02\x55" * 8, (1, 2, 85)),
    "colour of 16 bits": (16, 2, struct.pack(">3H", 0x1234, 0, 0), b"\x12\x34\0\0\0\0" * 8 + b"\xff\xff\0\0\0\0" * 8, RED),
}


@pytest.mark.parametrize("kind", KEYED)
def test_a_transparent_colour_is_found_at_every_depth(kind: str) -> None:
    depth, color, key, row, other = KEYED[kind]
    data = build_png(16, 16, depth=depth, color=color, before=build_chunk(b"tRNS", key), pixels=(b"\0" + row) * 16)
    assert get_halves(data) == (WHITE, other)


def test_a_palette_with_shades_of_alpha_lies_on_white() -> None:
    image = draw_halves(RED).quantize(4)
    red = image.getpixel((0, 0))
    assert get_halves(save_image(image, transparency=bytes(127 if n == red else 255 for n in range(4)))) == ((255, 128, 128), BLACK)


# Colours


def test_cmyk_and_ycck_jpegs_have_the_colours_that_adobe_means() -> None:
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    cmyk.paste((255, 255, 0, 0), (16, 0, 32, 32))
    left, right = get_halves(save_image(cmyk, "JPEG", quality=100, subsampling=0))
    np.testing.assert_allclose((left, right), (RED, BLUE), atol=3)
    turned = Image.new("RGB", (32, 32), (0, 255, 255))  # of red: 255 - R, which the channels Y, Cb and Cr stand for
    turned.paste((255, 255, 0), (16, 0, 32, 32))
    channels = [channel.point(lambda level: 255 - level) for channel in turned.convert("YCbCr").split()]  # Pillow inverts again
    data = save_image(Image.merge("CMYK", [*channels, Image.new("L", (32, 32), 0)]), "JPEG", quality=100, subsampling=0)
    adobe = data.index(b"Adobe") + 11
    assert data[adobe] == 0
    left, right = get_halves(data[:adobe] + b"\x02" + data[adobe + 1 :])
    np.testing.assert_allclose((left, right), (RED, BLUE), atol=3)


@pytest.mark.parametrize(("mode", "level", "expected"), [("1", 1, 255), ("L", 100, 100), ("P", 100, 100), ("I;16", 257 * 100, 100)])
def test_grey_of_every_mode_keeps_its_level(mode: str, level: int, expected: int) -> None:
    image = Image.new("L" if mode == "P" else mode, (16, 16))
    image.paste(level, (0, 0, 8, 16))
    if mode == "P":
        image = image.convert("P")
    assert get_halves(save_image(image)) == ((expected,) * 3, BLACK)


def test_a_colour_profile_changes_nothing_and_may_be_broken() -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        options = LOSSLESS.get(kind, {})
        plain, profiled = (save_image(draw_noise(0), kind, icc_profile=profile, **options) for profile in (None, b"no profile"))
        assert len(profiled) > len(plain)
        assert decode_image(profiled).tobytes() == decode_image(plain).tobytes()


# Size and blankness


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 40), (7, 100), (100, 7)])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "BMP", "WEBP"])
def test_what_is_too_small_for_a_picture_is_refused(size: tuple[int, int], kind: str) -> None:
    with pytest.raises(ImageError, match=rf"^The image has {size[0]} x {size[1]} pixels, too small for a picture: each side must have at least 8\.$"):
        decode_image(save_image(draw_noise(0, 100).crop((0, 0, *size)), kind))


def test_the_smallest_picture_passes() -> None:
    assert decode_image(save_image(draw_noise(0, 8))).size == (8, 8)


def draw_specks(count: int, *, size: int = 100, ground: object = WHITE) -> Image.Image:
    image = Image.new("RGB", (size, size), ground)
    for n in range(count):
        image.putpixel((n % size, n // size), BLACK)
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("ground", [WHITE, BLACK, (200, 30, 90)])
def test_one_colour_is_blank_in_every_format(kind: str, ground: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="^The image is blank"):
        decode_image(save_image(Image.new("RGB", (64, 64), ground), kind))


@pytest.mark.parametrize(("image", "blank"), [
    (draw_specks(9), True), (draw_specks(10), False),  # one in a thousand
    (draw_specks(7, size=16), True), (draw_specks(8, size=16), False),  # a few in a small one
    (Image.linear_gradient("L").point(lambda level: 100 + level * 14 // 255), True),  # 8 levels to each side of the median
    (Image.linear_gradient("L").point(lambda level: 100 + level * 20 // 255), False),
])  # fmt: skip
def test_practically_one_colour_is_blank(image: Image.Image, blank: bool) -> None:
    data = save_image(image)
    if blank:
        with pytest.raises(ImageError, match="blank"):
            decode_image(data)
    else:
        assert decode_image(data).tobytes() == image.convert("RGB").tobytes()


def test_colours_of_equal_brightness_are_not_blank() -> None:
    image = Image.new("RGB", (16, 16), (100, 100, 100))
    image.paste((100, 100, 120), (0, 0, 8, 16))
    assert get_halves(save_image(image)) == ((100, 100, 120), (100, 100, 100))


def test_a_decoded_picture_holds_no_metadata() -> None:
    image = decode_image(save_image(draw_noise(0), "JPEG", comment=b"hello", dpi=(300, 300)))
    assert (image.mode, image.info) == ("RGB", {})
    with Image.open(io.BytesIO(save_image(image))) as again:
        assert again.info == {}
