"""Pictures that the catalogue lacks go through the stages' own ledgers. Run: python -m pytest tests/pipeline/draw/test_new_items.py"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import build_table
from pipeline.captioning import caption_items
from pipeline.data.images import decode_image, encode_png
from pipeline.data.stored_images import fit_square
from pipeline.draw.new_items import ItemModels, NewItem, describe_new_items, store_pictures
from pipeline.draw.requests import Request, Start
from pipeline.draw.scores import caption_pictures
from pipeline.embedding import Encoders
from pipeline.models.lazy import LazyModel
from pipeline.schemas import CAPTIONS, EMBEDDINGS
from pipeline.table_images import ImageColumn
from tests.pipeline.draw.toy_run import ToyRun, draw_disc
from tests.stand_ins import WIDTH, StandInCaptioner, StandInEncoder


class CountingCaptioner(StandInCaptioner):
    def __init__(self) -> None:
        self.num_asked = 0

    def caption(self, images, **options):
        self.num_asked += 1
        return super().caption(images, **options)


def make_models(toy: ToyRun) -> tuple[ItemModels, CountingCaptioner]:
    models, captioner, encoder = ItemModels(toy.run.params), CountingCaptioner(), StandInEncoder()
    models.__dict__["captioner"] = LazyModel("toy captioner", lambda: captioner)
    models.__dict__["encoders"] = LazyModel("toy encoders", lambda: Encoders(encoder, encoder))
    return models, captioner


def make_wide(toy: ToyRun) -> None:
    """Give the run vectors of the stand-in's width."""
    wide = np.eye(24, WIDTH, dtype=np.float32).tolist()
    ids = [row["item_id"] for row in toy.items]
    toy.run.embeddings = build_table(
        [{"item_id": i, "semantic": v, "visual": v, "clip_image": v} for i, v in zip(ids, wide, strict=True)], EMBEDDINGS
    )


def make_item(level: int, text: str = "a pot") -> NewItem:
    data = encode_png(draw_disc(level))
    return NewItem(f"new-{level}", data, hashlib.sha256(data).hexdigest(), text, "")


def make_request(path: Path, text: str = "pot") -> Request:
    return Request(2, "", "user-1", (), "", path, text, "", 0, 1, "sd", 5, Start())


def test_a_picture_is_stored_as_the_data_set_stores_its_own(toy: ToyRun) -> None:
    path = toy.folder / "pot.png"
    draw_disc(120, size=300, at=150).crop((0, 0, 300, 200)).save(path)
    requests = [make_request(path), replace(make_request(path, "pan"), number=3), replace(make_request(path), number=4, image=None)]
    items = store_pictures(requests, toy.run)
    assert items.keys() == {2, 3}
    assert items[2].image == items[3].image == encode_png(fit_square(decode_image(path.read_bytes()), 64))
    assert items[2].digest == hashlib.sha256(items[2].image).hexdigest()
    assert items[2].item_id != items[3].item_id  # another thing, though it looks the same


def test_a_picture_that_breaks_the_policy_is_a_sentence(toy: ToyRun) -> None:
    path = toy.folder / "pot.png"
    path.write_bytes(b"no picture at all")
    assert store_pictures([make_request(path)], toy.run)[2].startswith("The image pot.png cannot be used: The file is not an image of a known format")


def test_new_items_are_described_and_one_that_cannot_be_is_left_out(toy: ToyRun) -> None:
    make_wide(toy)
    models, _ = make_models(toy)
    blank = NewItem("new-blank", encode_png(draw_disc(9).resize((1, 1)).resize((16, 16))), "digest", "", "")
    described = describe_new_items([make_item(10), blank, make_item(10)], toy.run, models)
    assert described.captions["item_id"].to_pylist() == ["new-10"]
    assert described.captions.schema.equals(toy.run.captions.schema)
    assert described.embeddings.schema.equals(toy.run.embeddings.schema)
    assert [item.item_id for item in described.found] == ["new-10"]
    assert described.reasons == {"new-blank": "The image is blank: practically all of its pixels have one colour."}


def test_what_the_stage_has_captioned_is_not_captioned_again(toy: ToyRun) -> None:
    make_wide(toy)
    models, captioner = make_models(toy)
    path = toy.run.locate("evaluation", "items")
    with caption_items(toy.run.items, ImageColumn(path), toy.run.captioning, captioner=models.captioner) as result:
        captions = {key: value["caption"] for key, value in result.values.items()}
    asked = captioner.num_asked
    described = describe_new_items([make_item(20)], toy.run, models)  # the picture of item-02
    assert captioner.num_asked == asked
    assert described.captions["caption"].to_pylist() == [captions["item-02"]]


def test_drawn_pictures_are_captioned_once_each(toy: ToyRun) -> None:
    models, captioner = make_models(toy)
    first, second = encode_png(draw_disc(1)), encode_png(draw_disc(2, at=6))
    captions = caption_pictures({("sd", "a"): first, ("sd", "b"): second, ("ragar", "a"): first}, toy.run, models)
    assert captions["sd", "a"] == captions["ragar", "a"] == "a picture that begins with (255, 255, 255)"
    assert captions["sd", "b"].startswith("a picture that begins with (")
    asked = captioner.num_asked
    assert caption_pictures({("sd", "c"): second}, toy.run, models) == {("sd", "c"): captions["sd", "b"]}
    assert captioner.num_asked == asked


@pytest.mark.parametrize("table", [CAPTIONS, EMBEDDINGS], ids=lambda table: table.name)
def test_without_new_pictures_no_model_is_loaded(toy: ToyRun, table: object) -> None:
    models = ItemModels(toy.run.params)
    described = describe_new_items([], toy.run, models)
    assert not models.__dict__.keys() & {"captioner", "encoders"}
    assert len({"captions": described.captions, "embeddings": described.embeddings}[table.name]) == 0
