"""The image policy, on files built byte by byte. Run: `python -m pytest tests/pipeline/data/test_images.py`."""

from __future__ import annotations

import io
import random
import resource
import struct
import time

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline.data.images import MAX_BYTES, MAX_PIXELS, ImageError, decode_batch, decode_drawing, decode_image, encode_png
from tests.broken_items import build_png, draw_halves, draw_noise, save_image

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def get_pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    return decode_drawing(data).getpixel((x, y))


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ImageError, match=r"^The image is empty \(0 bytes\)\.$"):
        decode_image(b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_every_allowed_format_decodes_and_its_truncated_file_is_refused(kind: str) -> None:
    data = save_image(draw_noise(0, 64), kind)
    image = decode_image(data)
    assert (image.size, image.mode, image.info) == ((64, 64), "RGB", {})
    with pytest.raises(ImageError, match=r"^[A-Z].*(damaged|truncated).*\.$"):
        decode_image(data[: len(data) // 2])


def test_another_librarys_switch_for_truncated_images_is_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = save_image(draw_noise(0, 64))
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"\x00" * 1000])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"known format|damaged"):
        decode_image(data)


def test_a_format_outside_the_list_is_refused_though_pillow_could_read_it() -> None:
    with pytest.raises(ImageError, match="PNG, JPEG, GIF, WEBP, BMP"):
        decode_image(save_image(draw_noise(0, 64), "TIFF"))


@pytest.mark.parametrize("side", [30_000, 40_000, 12_000, 8_000])
@pytest.mark.filterwarnings("error")
def test_a_decompression_bomb_is_refused_from_its_header_without_time_or_memory(side: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(ImageError, match="allowed 50,000,000"):
        decode_image(build_png(side, side, depth=1, color=0))
    assert time.monotonic() - started < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_the_largest_allowed_size_passes_the_header_check() -> None:
    with pytest.raises(ImageError, match="damaged"):  # its pixels are missing, which is found out later
        decode_image(build_png(MAX_PIXELS // 5_000, 5_000, depth=1, color=0))


def test_an_oversized_file_is_refused() -> None:
    with pytest.raises(ImageError, match="33,554,432 bytes"):
        decode_image(save_image(draw_noise(0, 64)) + b"\0" * MAX_BYTES)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError):
        decode_image(build_png(*size))


def test_an_absurd_shape_is_refused_and_a_long_one_is_not() -> None:
    with pytest.raises(ImageError, match="5100 x 100 pixels; one side is more than 50 times"):
        decode_image(save_image(Image.new("RGB", (5100, 100))))
    assert decode_drawing(save_image(Image.new("RGB", (50, 2500)))).size == (50, 2500)


def test_a_cmyk_jpeg_keeps_its_colour() -> None:
    red, green, blue = get_pixel(save_image(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, WHITE),
        ("LA", (0, 0), WHITE),
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 127), (255, 128, 128)),
    ],
)
def test_grey_and_transparent_images_are_laid_on_white(mode: str, color: object, expected: tuple[int, ...]) -> None:
    assert get_pixel(save_image(Image.new(mode, (8, 8), color))) == expected


def test_a_palette_with_a_transparent_entry_is_laid_on_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((0, 0), 0)
    data = save_image(image, transparency=1)
    assert get_pixel(data) == BLUE
    assert get_pixel(data, 4, 4) == WHITE
    assert get_pixel(save_image(image), 4, 4) == RED


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.array([[0, 257 * 100, 65535]] * 3, dtype=np.uint16)
    image = decode_drawing(save_image(Image.fromarray(ramp)))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


def test_sixteen_bit_colour_is_scaled() -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 257 * 100, 0)
    assert get_pixel(build_png(1, 1, depth=16, pixels=row)) == (255, 100, 0)


def test_the_exif_orientation_is_applied_and_broken_exif_ignored() -> None:
    image = Image.new("RGB", (20, 10), RED)
    image.paste(BLUE, (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left side belongs on top
    rotated = decode_image(save_image(image, exif=exif))
    assert rotated.size == (10, 20)
    assert (rotated.getpixel((5, 2)), rotated.getpixel((5, 17))) == (BLUE, RED)
    assert decode_image(save_image(image, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).size == (20, 10)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = save_image(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, loop=0, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
    assert get_pixel(data) == RED


def test_damaged_files_are_decoded_or_refused_but_never_crash() -> None:
    rng = random.Random(0)
    outcomes = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        original = save_image(draw_noise(0, 24), kind)
        for _ in range(60):
            data = bytearray(original)
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            images, reasons = decode_batch([bytes(data)])
            outcomes.append(reasons.get(0, images[0].mode))
    assert "RGB" in outcomes
    assert {outcome[-1] for outcome in outcomes if outcome != "RGB"} == {"."}
    assert not any("\n" in outcome for outcome in outcomes)


def test_a_batch_keeps_its_length_and_names_the_broken_ones() -> None:
    good = save_image(draw_halves(RED))
    images, reasons = decode_batch([good, b"", good])
    assert [image.getpixel((0, 0)) for image in images] == [RED, WHITE, RED]
    assert reasons == {1: "The image is empty (0 bytes)."}


def test_a_blank_drawing_is_a_result_and_a_blank_picture_is_none() -> None:
    blank = save_image(Image.new("RGB", (16, 16), RED))
    images, reasons = decode_batch([blank], decode_drawing)
    assert (images[0].getpixel((3, 3)), reasons) == (RED, {})
    assert decode_batch([blank])[1] == {0: "The image is blank: practically all of its pixels have one colour."}


def test_encoded_pngs_depend_on_pixels_alone_and_survive_a_round_trip() -> None:
    image = draw_noise(0, 64)
    data = encode_png(image)
    image.info = {"dpi": (300, 300), "icc_profile": b"profile", "comment": "hello"}
    assert encode_png(image) == data
    np.testing.assert_array_equal(np.asarray(decode_image(data)), np.asarray(image))
