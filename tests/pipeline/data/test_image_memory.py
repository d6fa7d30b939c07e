"""How much memory decoding holds at most, in processes of their own. Run: `python -m pytest tests/pipeline/data/test_image_memory.py`."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cost import read_peak_resident
from pipeline.data.image_policy import FRAME_BYTES, MAX_DECODED_BYTES
from pipeline.data.images import ImageError, decode_image
from tests.broken_items import build_chunk, build_png, save_image
from tests.test_repo_rules import REPO

MIB = 2**20
MEASURE = """
import sys
from pathlib import Path
from pipeline.cost import read_peak_resident
from pipeline.cost import read_peak_resident
from pipeline.data.image_policy import estimate_bytes
from pipeline.data import images
data, small = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes()
images.decode_image(small)
seen = []
check = images.check_memory
images.check_memory = lambda image: (check(image), seen.append(estimate_bytes(image)))
before = read_peak_resident()
image = images.decode_image(data)
print(read_peak_resident() - before, seen[0], *image.size)
"""


def build_rgba16(width: int, height: int, *, turned: bool = False) -> bytes:
    """Build a 16-bit PNG with alpha that is small on the disk."""
    row = b"\0" + struct.pack(">4H", 65535, 0, 0, 30_000) * (width // 2) + struct.pack(">4H", 0, 0, 65535, 0) * (width - width // 2)
    packer = zlib.compressobj(1)
    body = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    exif = build_chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0") if turned else b""
    empty = build_png(width, height, depth=16, color=6, before=exif)
    return empty.replace(build_chunk(b"IDAT", zlib.compress(b"")), build_chunk(b"IDAT", body))


def draw_large(size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, "red")
    image.paste("blue", (0, 0, size[0] // 2, size[1]))
    return image


def draw_hidden(size: tuple[int, int]) -> Image.Image:
    image = draw_large(size).convert("RGBA")
    image.putalpha(0)
    return image


def save_animation(kind: str, **options: object) -> bytes:
    """Save two blank frames and one that is none."""
    frames = [Image.new("RGB", SIZE, color) for color in ("black", "red")] + [draw_large(SIZE)]
    return save_image(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)


SIZE = (2000, 1500)
LARGE = {
    "16-bit PNG with alpha": lambda: build_rgba16(*SIZE),
    "16-bit PNG with alpha, turned": lambda: build_rgba16(*SIZE, turned=True),
    "16-bit grey PNG": lambda: save_image(Image.fromarray(np.tile(np.arange(SIZE[0], dtype=np.uint16) * 20, (SIZE[1], 1))), compress_level=1),
    "palette": lambda: save_image(draw_large(SIZE).quantize(4), transparency=0, compress_level=1),
    "JPEG": lambda: save_image(draw_large(SIZE), "JPEG"),
    "progressive JPEG": lambda: save_image(draw_large(SIZE), "JPEG", progressive=True, subsampling=0),
    "progressive CMYK JPEG": lambda: save_image(draw_large(SIZE).convert("CMYK"), "JPEG", progressive=True, subsampling=0),
    "WebP": lambda: save_image(draw_large(SIZE), "WEBP", method=0),
    "WebP with alpha": lambda: save_image(draw_large(SIZE).convert("RGBA"), "WEBP", lossless=True, method=0),
    "GIF": lambda: save_image(draw_large(SIZE), "GIF"),
    "PNG hidden by its alpha": lambda: save_image(draw_hidden(SIZE), compress_level=1),
    "animated GIF": lambda: save_animation("GIF"),
    "animated PNG": lambda: save_animation("PNG", compress_level=1),
    "animated WebP": lambda: save_animation("WEBP", method=0),
    "BMP": lambda: save_image(draw_large(SIZE), "BMP"),
}


def measure(data: bytes, folder: Path) -> tuple[int, int, tuple[int, int]]:
    """Return what a process of its own needed more for this image than for a small one, what was estimated, and the decoded size."""
    (folder / "large").write_bytes(data)
    (folder / "small").write_bytes(save_image(draw_large((64, 64))))
    command = [sys.executable, "-c", MEASURE, str(folder / "large"), str(folder / "small")]
    process = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    peak, estimate, width, height = map(int, process.stdout.split())
    return peak, estimate, (width, height)


@pytest.mark.parametrize("kind", LARGE)
def test_decoding_holds_what_was_estimated_from_the_header(kind: str, tmp_path: Path) -> None:
    data = LARGE[kind]()
    peak, estimate, size = measure(data, tmp_path)
    assert sorted(size) == sorted(SIZE)
    if kind.startswith("animated"):
        estimate = FRAME_BYTES * SIZE[0] * SIZE[1]
    print(f"{kind}: peak {peak / MIB:.0f} MiB, estimate {estimate / MIB:.0f} MiB, {peak / (SIZE[0] * SIZE[1]):.1f} bytes a pixel")
    assert peak < estimate + 2 * len(data) + 8 * MIB


def patch_jpeg(data: bytes, side: int) -> bytes:
    """Let a progressive JPEG's header claim another size."""
    frame = data.index(b"\xff\xc2")
    return data[: frame + 5] + struct.pack(">HH", side, side) + data[frame + 9 :]


def patch_webp(data: bytes, side: int) -> bytes:
    """Let an animated WebP's header claim a larger canvas."""
    return data[:24] + (side - 1).to_bytes(3, "little") * 2 + data[30:]


@pytest.mark.parametrize(("patch", "side", "needed"), [(patch_jpeg, 7_000, 49_000_000 * 12), (patch_webp, 7_000, 49_000_000 * 18)])
def test_what_would_need_too_much_is_refused_from_its_header(patch: Callable[[bytes, int], bytes], side: int, needed: int) -> None:
    image = draw_large((64, 64))
    if patch is patch_jpeg:
        small = save_image(image.convert("CMYK"), "JPEG", progressive=True)
    else:
        small = save_image(image, "WEBP", save_all=True, append_images=[image.rotate(90)], duration=100)
    decode_image(small)
    before, started = read_peak_resident(), time.process_time()
    with pytest.raises(
        ImageError, match=f"7000 x 7000 pixels .*, which take {needed:,} bytes to decode, more than the allowed {MAX_DECODED_BYTES:,}"
    ):
        decode_image(patch(small, side))
    assert read_peak_resident() - before < 8 * MIB
    assert time.process_time() - started < 0.1
