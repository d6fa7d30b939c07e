"""One picture has one fate on every path: catalogue, extra items, downloads. Run: `python -m pytest tests/pipeline/data/test_unusable_images.py`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.artifacts import build_table
from pipeline.captioning import caption_items
from pipeline.data.adapters.folder import build_folder
from pipeline.data.dataset import Dataset, explain_missing
from pipeline.data.fetch.download import Downloader
from pipeline.data.fetch.failures import Dead
from pipeline.data.fetch.run import Wanted, fetch_images, read_wanted
from pipeline.models.lazy import LazyModel
from pipeline.schemas import ITEMS
from stages.dataset import write_missing
from tests.broken_items import TableImages, build_chunk, build_exif, build_png, draw_halves, draw_noise, save_image
from tests.configs import CAPTIONING, FOLDER
from tests.raw_sets import make_folder
from tests.web import FakeTime, run_web


def draw_hidden() -> Image.Image:
    image = draw_halves("red", 40).convert("RGBA")
    image.putalpha(0)
    return image


USABLE = {
    "hidden": save_image(draw_hidden()),
    "turned": save_image(draw_halves("red", 40).crop((0, 0, 40, 20)), exif=build_exif([(0x010E, 2, 9_999, b"\xff" * 4), (0x0112, 3, 1, b"\x06")])),
    "described": build_png(16, 16, pixels=b"".join(b"\0" + bytes([n * 15] * 48) for n in range(16)), before=build_chunk(b"tEXt", b"x", sound=False)),
    "later": save_image(Image.new("RGB", (40, 40)), "GIF", save_all=True, append_images=[draw_halves("red", 40)]),
    "plain": save_image(draw_halves("red", 40)),
}
UNUSABLE = {
    "pixel": (save_image(Image.new("RGBA", (1, 1)), "GIF"), "The image has 1 x 1 pixels, too small for a picture: each side must have at least 8."),
    "blank": (save_image(Image.new("RGB", (40, 40), "beige"), "JPEG"), "The image is blank: practically all of its pixels have one colour."),
    "empty": (save_image(Image.new("RGBA", (40, 40))), "The image is blank: practically all of its pixels have one colour."),
    "fine": (save_image(draw_noise(0, 1600)), "The image is blank: practically all of its pixels have one colour."),  # once it is reduced
    "cut": (save_image(draw_noise(0))[:900], "The PNG image is damaged or truncated (image file is truncated (0 bytes not processed))."),
}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Build a catalogue that holds all of these pictures, as items and as extra items."""
    raw, extra = make_folder(tmp_path / "raw"), tmp_path / "extra"
    extra.mkdir()
    with (raw / "items.csv").open("a", encoding="utf-8") as file:
        for name, image in (USABLE | {name: image for name, (image, _) in UNUSABLE.items()}).items():
            (raw / "images" / f"{name}.png").write_bytes(image)
            (extra / f"{name}.png").write_bytes(image)
            file.write(f"{name},{name}.png,a picture,odd\n")
    return build_folder(replace(FOLDER, raw=str(raw), image_size=32, max_rejected_fraction=0.5), extra=extra)


def test_usable_pictures_are_stored_alike_on_every_path(data: Dataset) -> None:
    for name in USABLE:
        assert data.items[name]["image"]["bytes"] == data.items[f"extra-{name}.png"]["image"]["bytes"]
    with Image.open(io.BytesIO(data.items["turned"]["image"]["bytes"])) as image:
        assert [image.getpixel(place) for place in ((3, 16), (16, 8), (16, 24))] == [(255, 255, 255), (255, 0, 0), (0, 0, 0)]
    for name in ("hidden", "later"):
        assert data.items[name]["image_sha256"] == data.items["plain"]["image_sha256"]


def test_unusable_pictures_are_rejected_with_their_reason_on_every_path(data: Dataset) -> None:
    reasons = {row.item_id: row.reason for row in data.missing}
    expected = {name: reason for name, (_, reason) in UNUSABLE.items()}
    assert {name: reasons[name] for name in expected} == expected
    assert {name: reasons[f"extra-{name}.png"] for name in expected} == expected
    assert set(reasons) == {"9999", *expected, *(f"extra-{name}.png" for name in expected)}
    assert not set(reasons) & set(data.items)
    assert explain_missing(data.missing)["extra-blank.png"].endswith(
        "extra/blank.png is missing: The image is blank: practically all of its pixels have one colour."
    )
    assert data.facts["extra_items"] == len(USABLE)
    assert {item for case in data.cases for item in case["history"] if item.startswith("extra-")} == {f"extra-{name}.png" for name in USABLE}


def test_what_comes_from_a_host_is_judged_alike(tmp_path: Path) -> None:
    images = USABLE | {name: image for name, (image, _) in UNUSABLE.items()}
    with run_web() as web:
        wanted = [Wanted(name, tmp_path / name, web.serve(f"/{name}", image)) for name, image in images.items()]
        outcomes = {item.item_id: failure for item, failure in fetch_images(wanted, Downloader(["127.0.0.1"], sleep=FakeTime().sleep))}
    failures = {name: failure for name, failure in outcomes.items() if failure is not None}
    assert set(failures) == set(UNUSABLE) - {"fine"}  # `fine` is blank only at the size that a data set asks for
    assert all(isinstance(failure, Dead) for failure in failures.values())
    assert "too small for a picture" in str(failures["pixel"])


def test_an_unusable_extra_item_does_not_stop_the_downloads(tmp_path: Path, data: Dataset) -> None:
    write_missing(data.missing, tmp_path)
    with (tmp_path / "missing.csv").open(encoding="utf-8", newline="") as file:
        assert "extra-blank.png" in {row["item_id"] for row in csv.DictReader(file)}
    assert read_wanted(tmp_path / "missing.csv", tmp_path / "raw", []) == []


def test_no_captioner_sees_a_blank_picture_as_one(data: Dataset) -> None:
    class Recorder:
        def caption(self, images: Sequence[Image.Image], **_: object) -> list[str]:
            return [f"{len(set(image.get_flattened_data()))} colours" for image in images]

    items = build_table(data.items.iterate_sorted(), ITEMS)
    with caption_items(items, TableImages(items), CAPTIONING, captioner=LazyModel("recorder", Recorder)) as result:
        captions = result.load()
    assert captions.rejected == {}
    assert set(captions.values) == set(data.items)
    assert "1 colours" not in {value["caption"] for value in captions.values.values()}
