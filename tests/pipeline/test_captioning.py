"""Captions of good, odd and broken images with a tiny BLIP-2. Run: `python -m pytest tests/pipeline/test_captioning.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from pipeline.artifacts import build_table
from pipeline.captioning import EMPTY_CAPTION, CaptioningConfig, caption_items
from pipeline.models.captioner import Captioner, load_captioner
from pipeline.models.lazy import LazyModel
from pipeline.rows import MapResult
from pipeline.schemas import ITEMS
from tests.broken_items import REJECTED, TableImages, build_item, build_items, draw_halves, save_image
from tests.configs import CAPTIONING
from tests.tiny_encoders import save_tiny_blip2

MODEL = ("tiny-1", "float32")


class SizeCaptioner:
    """Says the image's size and records the batches that it saw; the word is empty for images of 9 px."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def caption(self, images: Sequence[Image.Image], *, prompt: str | None, num_beams: int, max_new_tokens: int) -> list[str]:
        self.batch_sizes.append(len(images))
        return ["" if image.width == 9 else f"{image.width} pixels" for image in images]


def make_config(**changes: Any) -> CaptioningConfig:
    return replace(CAPTIONING, **changes)


def caption(items: pa.Table, config: CaptioningConfig, *, load: Callable[[], Any], model: Sequence[str]) -> MapResult:
    with caption_items(items, TableImages(items), config, captioner=LazyModel(" ".join(model), load)) as result:
        return result.load()


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return load_captioner(str(save_tiny_blip2(tmp_path_factory.mktemp("blip2"))))


def test_every_item_has_exactly_one_outcome_and_broken_images_say_why() -> None:
    items = build_items(3)
    result = caption(items, make_config(), load=SizeCaptioner, model=MODEL)
    assert set(result.rejected) == REJECTED
    assert set(result.values) | set(result.rejected) == set(items["item_id"].to_pylist())
    assert all(reason.endswith(".") for reason in result.rejected.values())
    assert "0 bytes" in result.rejected["zero"]
    assert "50,000,000" in result.rejected["bomb"]
    assert "blank" in result.rejected["blank"]
    assert "1 x 1 pixels, too small" in result.rejected["pixel"]
    assert (result.summary.rows_in, result.summary.computed, result.summary.rejected) == (12, 12, 6)


def test_a_broken_neighbour_changes_no_caption(captioner: Captioner) -> None:
    alone = caption(build_items(3, odd=False), make_config(), load=lambda: captioner, model=("a",))
    mixed = caption(build_items(3), make_config(), load=lambda: captioner, model=("b",))
    assert len(alone.values) == 3
    assert all(mixed.values[key] == value for key, value in alone.values.items())


def test_a_second_run_computes_nothing_and_loads_no_model(captioner: Captioner) -> None:
    first = caption(build_items(5), make_config(), load=lambda: captioner, model=MODEL)

    def refuse() -> Captioner:
        raise AssertionError("the model was loaded although nothing was left to do")

    second = caption(build_items(5), make_config(), load=refuse, model=MODEL)
    assert (second.values, second.rejected) == (first.values, first.rejected)
    assert (second.summary.computed, second.summary.reused) == (0, 14)


def test_only_new_items_are_computed_and_batches_keep_their_shape() -> None:
    fake = SizeCaptioner()
    caption(build_items(6, odd=False), make_config(), load=lambda: fake, model=MODEL)
    assert fake.batch_sizes == [4, 4]
    result = caption(build_items(7, odd=False), make_config(), load=lambda: fake, model=MODEL)
    assert fake.batch_sizes == [4, 4, 4]
    assert (result.summary.computed, result.summary.reused) == (1, 6)


def test_equal_images_are_captioned_once() -> None:
    items = build_items(2, odd=False)
    copies = items.set_column(0, items.schema.field("item_id"), [["copy-0", "copy-1"]])
    both = pa.concat_tables([items, copies])
    result = caption(both, make_config(), load=SizeCaptioner, model=MODEL)
    assert (result.summary.rows_in, result.summary.computed) == (4, 2)
    assert result.values["copy-1"] == result.values["good-0001"]


@pytest.mark.parametrize("change", [{"prompt": "a photo of"}, {"num_beams": 1}, {"max_new_tokens": 3}, {"model": ("tiny-2", "float32")}])
def test_what_can_change_a_caption_makes_a_new_ledger(change: dict[str, Any]) -> None:
    items = build_items(2, odd=False)
    caption(items, make_config(), load=SizeCaptioner, model=MODEL)
    model = change.pop("model", MODEL)
    again = caption(items, make_config(**change), load=SizeCaptioner, model=model)
    assert again.summary.computed == 2


def test_an_empty_caption_is_rejected() -> None:
    rows = [build_item(f"i{size}", save_image(draw_halves("red", size)), text="", category="") for size in (9, 10)]
    result = caption(build_table(rows, ITEMS), make_config(), load=SizeCaptioner, model=MODEL)
    assert result.rejected == {"i9": EMPTY_CAPTION}
    assert result.values == {"i10": {"caption": "10 pixels"}}
