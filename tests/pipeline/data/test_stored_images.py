"""Image files to stored bytes. Run: python -m pytest tests/pipeline/data/test_stored_images.py"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data import stored_images
from pipeline.data.images import decode_image
from pipeline.data.stored_images import fit_square, store_images
from tests.broken_items import build_odd_images
from tests.raw_sets import draw_image, save_odd_images


def test_a_long_image_is_reduced_and_centred_on_white_and_a_small_one_stays() -> None:
    tall = fit_square(Image.new("RGB", (40, 80), "red"), 20)
    assert tall.size == (20, 20)
    assert [tall.getpixel((x, 10)) for x in (0, 4, 5, 14, 15, 19)] == [(255,) * 3] * 2 + [(255, 0, 0)] * 2 + [(255,) * 3] * 2
    assert fit_square(Image.new("RGB", (8, 8)), 20).size == (8, 8)
    assert fit_square(Image.new("RGB", (1000, 1)), 20).size == (20, 20)


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_every_mode_is_stored_as_rgb_and_every_broken_file_has_its_sentence(image_format: str, tmp_path: Path) -> None:
    good = [tmp_path / name for name in save_odd_images(tmp_path, [str(n) for n in range(5)])]
    for name, data in build_odd_images().items():
        (tmp_path / name).write_bytes(data)
    broken = [tmp_path / name for name in ("blank", "bomb", "pixel", "text", "truncated", "zero")]
    stored = list(store_images([*good, *broken, tmp_path / "gone.png"], image_size=32, image_format=image_format))
    for data in stored[:5]:
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.mode, image.size) == (image_format.upper(), "RGB", (32, 32))
    assert decode_image(stored[1]).getpixel((0, 16))[0] > 250  # transparent there: white
    assert [isinstance(text, str) and text.endswith(".") for text in stored[5:]] == [True] * 7
    assert "No such file" in stored[-1]


def test_many_images_go_through_processes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(7)]
    for n, path in enumerate(paths):
        draw_image(n).save(path)
    paths.append(tmp_path / "gone.png")
    alone = list(store_images(paths, image_size=24, image_format="png"))
    monkeypatch.setattr(stored_images, "IMAGES_A_PROCESS", 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert list(store_images(paths, image_size=24, image_format="png")) == alone
