"""Which frame of an animation is the picture. Run: `python -m pytest tests/pipeline/data/test_image_frames.py`."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from pipeline.data import images
from pipeline.data.image_pixels import clear_outside
from pipeline.data.images import ImageError, decode_image
from tests.broken_items import build_chunk, build_png, draw_halves, save_image
from tests.pipeline.data.test_image_policy import BLACK, BLUE, RED, WHITE, get_halves

KINDS = ("GIF", "PNG", "WEBP")


def save_frames(frames: Sequence[Image.Image], kind: str) -> bytes:
    """Save an animation and check that it is one of so many frames."""
    options = {"lossless": True, "exact": True, "kmin": 0, "kmax": 1} if kind == "WEBP" else {}
    data = save_image(frames[0], kind, save_all=True, append_images=frames[1:], duration=[100 + n for n in range(len(frames))], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == len(frames)
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_frame_is_the_picture(kind: str) -> None:
    assert get_halves(save_frames([draw_halves(RED), draw_halves(BLUE)], kind)) == (RED, BLACK)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ground", [BLACK, WHITE, (200, 0, 90)])
def test_a_blank_first_frame_is_passed_over(kind: str, ground: tuple[int, ...]) -> None:
    blank = [Image.new("RGB", (16, 16), ground), Image.new("RGB", (16, 16), (90, 90, 200))]
    assert get_halves(save_frames([*blank, draw_halves(RED), draw_halves(BLUE)], kind)) == (RED, BLACK)


@pytest.mark.parametrize("kind", KINDS)
def test_a_transparent_first_frame_is_passed_over_whatever_lies_beneath(kind: str) -> None:
    hidden, seen = draw_halves(BLUE).convert("RGBA"), draw_halves(RED).convert("RGBA")
    hidden.putalpha(0)
    assert get_halves(save_frames([hidden, seen], kind)) == (RED, BLACK)


@pytest.mark.parametrize("kind", KINDS)
def test_an_animation_of_nothing_is_blank(kind: str) -> None:
    colours = [(n * 20, 0, 0) for n in range(5)]
    with pytest.raises(ImageError, match="blank"):
        decode_image(save_frames([Image.new("RGB", (16, 16), colour) for colour in colours], kind))


def build_gif(frames: Sequence[tuple[tuple[int, int, int, int], int]], *, size: tuple[int, int] = (32, 32), transparent: int | None = None) -> bytes:
    """Build a GIF whose frames fill a box (left, top, width, height): left half RED, BLUE, BLACK or WHITE, right half black."""
    data = b"GIF89a" + struct.pack("<HHBBB", *size, 0x91, 0, 0) + bytes([*RED, *BLUE, *BLACK, *WHITE])
    for (left, top, width, height), colour in frames:
        control = struct.pack("<BHB", 1 if transparent is not None else 0, 10, transparent or 0)
        data += b"!\xf9\x04" + control + b"\0" + b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02"
        codes = [
            code for _ in range(height) for x in range(width) for code in (4, colour if x < (width + 1) // 2 else 2)
        ]  # 4: forget, so 3 bits last
        bits = sum(code << 3 * n for n, code in enumerate([*codes, 5]))
        packed = bits.to_bytes((3 * (len(codes) + 1) + 7) // 8, "little")
        data += b"".join(bytes([len(part)]) + part for part in (packed[n : n + 255] for n in range(0, len(packed), 255))) + b"\0"
    return data + b";"


def test_a_first_frame_that_does_not_fill_the_gif_lies_on_white() -> None:
    image = decode_image(build_gif([((8, 8, 16, 16), 0)]))
    assert image.size == (32, 32)
    assert [image.getpixel(place) for place in ((2, 16), (10, 16), (20, 16), (30, 16), (16, 4), (16, 28))] == [WHITE, RED, BLACK, WHITE, WHITE, WHITE]


def test_a_first_frame_beyond_the_gif_enlarges_it() -> None:
    assert decode_image(build_gif([((0, 0, 16, 16), 0)], size=(1, 1))).size == (16, 16)


@pytest.mark.parametrize("side", [1, 2, 7])
def test_a_tiny_first_frame_is_passed_over(side: int) -> None:
    data = build_gif([((0, 0, side, side), 1), ((0, 0, 32, 32), 0)])
    assert get_halves(data) == (RED, BLACK)
    with pytest.raises(ImageError, match="blank"):
        decode_image(build_gif([((0, 0, side, side), 1)]))


def test_a_tiny_first_frame_of_a_webp_is_passed_over() -> None:
    tiny, whole = (save_image(image, "WEBP", lossless=True)[12:] for image in (draw_halves(BLUE, 4), draw_halves(RED, 32)))

    def build(name: bytes, body: bytes) -> bytes:
        return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)

    def build_frame(bitstream: bytes, side: int) -> bytes:
        sizes = b"".join(value.to_bytes(3, "little") for value in (2, 2, side - 1, side - 1) if side == 4) or b"\0" * 6 + b"\x1f\0\0" * 2
        return build(b"ANMF", sizes + b"\x64\0\0\2" + bitstream)

    frames = build_frame(tiny, 4) + build_frame(whole, 32)
    body = b"WEBP" + build(b"VP8X", b"\x12\0\0\0" + b"\x1f\0\0" * 2) + build(b"ANIM", b"\0" * 6) + frames
    assert get_halves(b"RIFF" + len(body).to_bytes(4, "little") + body) == (RED, BLACK)


def test_a_gif_without_a_frame_is_refused() -> None:
    with pytest.raises(ImageError, match="header is damaged"):
        decode_image(build_gif([]))


def test_damage_behind_the_first_frame_of_an_apng_does_not_matter_and_at_it_does() -> None:
    good = save_frames([draw_halves(RED), draw_halves(BLUE)], "PNG")
    later, first = good.index(b"fdAT") + 12, good.index(b"IDAT") + 12
    assert get_halves(good[:later] + b"\xff" + good[later + 1 :]) == (RED, BLACK)
    with pytest.raises(ImageError, match="damaged"):
        decode_image(good[:first] + b"\xff" + good[first + 1 :])


@pytest.mark.parametrize("kind", KINDS)
def test_an_animation_cut_off_behind_its_picture_is_whole(kind: str) -> None:
    data = save_frames([Image.new("RGB", (16, 16)), draw_halves(RED), draw_halves(BLUE), draw_halves(WHITE)], kind)
    assert get_halves(data[:-30]) == (RED, BLACK)


def test_a_frame_that_claims_more_than_its_canvas_is_clipped() -> None:
    image = draw_halves(RED)
    assert clear_outside(image, (0, 0, 16_000, 16_000)).tobytes() == image.tobytes()
    assert clear_outside(image, (4, 0, 16_000, 16)).getpixel((2, 8)) == WHITE
    assert clear_outside(image, (400, 0, 16_000, 16)).getcolors() == [(256, WHITE)]


def test_a_still_picture_that_stands_before_an_animation_counts() -> None:
    rows = [b"".join(b"\0" + row.tobytes() for row in np.asarray(image)) for image in (draw_halves(RED), draw_halves(BLUE))]
    frame = build_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 16, 16, 0, 0, 1, 10, 0, 0)) + build_chunk(b"fdAT", b"\0\0\0\1" + zlib.compress(rows[1]))
    start = build_chunk(b"acTL", struct.pack(">II", 1, 0))
    assert get_halves(build_png(16, 16, pixels=rows[0], before=start, after=frame)) == (RED, BLACK)
    assert get_halves(build_png(16, 16, pixels=b"\0" * 49 * 16, before=start, after=frame)) == (BLUE, BLACK)


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_behind_the_picture_are_not_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    convert = images.convert_to_rgb
    monkeypatch.setattr(images, "convert_to_rgb", lambda image, **options: seen.append(image.tell()) or convert(image, **options))
    frames = [Image.new("RGB", (16, 16)), *(draw_halves((n, 0, 255)) for n in range(250))]
    data = save_frames(frames, kind)
    started = time.process_time()
    assert get_halves(data) == ((0, 0, 255), BLACK)
    assert time.process_time() - started < 0.1
    assert seen == [0, 1]


def test_an_endless_animation_of_nothing_is_given_up() -> None:
    data = build_gif([((0, 0, 32, 32), 2)] * 99 + [((0, 0, 32, 32), 0)])
    assert get_halves(data) == (RED, BLACK)
    data = build_gif([((0, 0, 32, 32), 2)] * 100 + [((0, 0, 32, 32), 0)])
    with pytest.raises(ImageError, match="blank"):
        decode_image(data)
