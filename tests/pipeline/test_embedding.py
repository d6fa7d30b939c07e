"""Vectors of good, odd and broken items with tiny encoders. Run: `python -m pytest tests/pipeline/test_embedding.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.artifacts import build_table, check_table, get_matrix, write_table
from pipeline.data.images import decode_image
from pipeline.embedding import (
    NO_TEXT,
    EmbeddingConfig,
    Encoders,
    build_semantic_text,
    embed_items,
    iterate_vectors,
)
from pipeline.models.encoders import load_clip, load_visual
from pipeline.models.lazy import LazyModel
from pipeline.rows import MapResult
from pipeline.schemas import CAPTIONS, EMBEDDINGS
from pipeline.vectors import find_faults
from tests.broken_items import REJECTED, TableImages, build_items
from tests.configs import EMBEDDING
from tests.tiny_encoders import save_tiny_clip, save_tiny_vit

MODELS = ("clip-1", "vit-1", "float32")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    clip, vit = save_tiny_clip(tmp_path_factory.mktemp("clip")), save_tiny_vit(tmp_path_factory.mktemp("vit"))
    return Encoders(load_clip(str(clip)), load_visual(str(vit)))


def make_config(**changes: Any) -> EmbeddingConfig:
    return replace(EMBEDDING, **changes)


def embed(items: pa.Table, captions: pa.Table, config: EmbeddingConfig, **options: Any) -> MapResult:
    with embed_items(items, TableImages(items), captions, config, **options) as result:
        return result.load()


def embed_table(items: pa.Table, captions: pa.Table, config: EmbeddingConfig, **options: Any) -> pa.Table:
    """Build the table that the stage writes."""
    with embed_items(items, TableImages(items), captions, config, **options) as result:
        return check_table(pa.concat_tables(iterate_vectors(result)), EMBEDDINGS, where="here")


def make_captions(**captions: str) -> pa.Table:
    return build_table([{"item_id": name.replace("_", "-"), "caption": text} for name, text in captions.items()], CAPTIONS)


def test_every_column_holds_the_encoders_own_vectors(encoders: Encoders) -> None:
    items = build_items(5, odd=False)
    captions = make_captions(good_0000="a red dog", good_0003="<b>sky</b>")
    table = embed_table(items, captions, make_config(), encoders=LazyModel(" ".join(MODELS), lambda: encoders))
    assert table["item_id"].to_pylist() == items["item_id"].to_pylist()
    images = [decode_image(image["bytes"]) for image in items["image"].to_pylist()]
    texts = ["a red dog", "the good-0001 <b>item</b>", "the good-0002 <b>item</b>", "<b>sky</b>", "the good-0004 <b>item</b>"]
    for column, expected in (
        ("semantic", encoders.clip.encode_texts(texts)),
        ("visual", encoders.visual.encode_images(images)),
        ("clip_image", encoders.clip.encode_images(images)),
    ):
        torch.testing.assert_close(torch.from_numpy(np.array(get_matrix(table, column))), expected)


def test_every_item_has_exactly_one_outcome_and_broken_images_say_why(encoders: Encoders) -> None:
    items = build_items(2)
    result = embed(items, make_captions(), make_config(), encoders=LazyModel(" ".join(MODELS), lambda: encoders))
    assert set(result.rejected) == REJECTED
    assert set(result.values) | set(result.rejected) == set(items["item_id"].to_pylist())


def test_an_item_without_caption_and_text_is_rejected(encoders: Encoders) -> None:
    items = build_items(2, odd=False).set_column(2, "text", [["", "  \n"]])
    result = embed(items, make_captions(good_0000="a dog"), make_config(), encoders=LazyModel(" ".join(MODELS), lambda: encoders))
    assert result.rejected == {"good-0001": NO_TEXT}
    assert list(result.values) == ["good-0000"]


def test_one_clip_in_both_roles_fills_both_columns_with_the_same_vectors(encoders: Encoders) -> None:
    both = Encoders(encoders.clip, encoders.clip)
    table = embed_table(build_items(2, odd=False), make_captions(), make_config(), encoders=LazyModel(" ".join(MODELS), lambda: both))
    np.testing.assert_array_equal(get_matrix(table, "visual"), get_matrix(table, "clip_image"))


def test_a_long_title_leaves_room_for_the_category(encoders: Encoders) -> None:
    budget = encoders.clip.text_budget
    items = build_items(2, odd=False)
    title = " ".join(["dog"] * 2 * budget.num_tokens)
    items = items.set_column(items.column_names.index("text"), "text", pa.array([title, title]))
    items = items.set_column(items.column_names.index("category"), "category", pa.array(["red", "blue"]))
    table = embed_table(items, make_captions(), make_config(semantic_text="text+category"), encoders=LazyModel("long", lambda: encoders))
    texts = [budget.fit_beginning(f"{title}, {category}", title).text for category in ("red", "blue")]
    assert [text.rpartition(", ")[2] for text in texts] == ["red", "blue"]
    assert all(map(budget.reads, texts))
    np.testing.assert_allclose(get_matrix(table, "semantic"), encoders.clip.encode_texts(texts).numpy(), atol=1e-6)
    assert not np.allclose(*get_matrix(table, "semantic"))


def test_a_changed_caption_recomputes_its_row_only(encoders: Encoders) -> None:
    items = build_items(6, odd=False)
    before = embed(items, make_captions(good_0001="a dog"), make_config(), encoders=LazyModel(" ".join(MODELS), lambda: encoders))
    after = embed(items, make_captions(good_0001="a cat"), make_config(), encoders=LazyModel(" ".join(MODELS), lambda: encoders))
    assert (after.summary.computed, after.summary.reused) == (1, 5)
    assert [key for key in after.values if after.values[key] != before.values[key]] == ["good-0001"]


def test_equal_runs_give_equal_bytes_and_another_model_another_ledger(encoders: Encoders, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for name in ("first", "second"):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        table = embed_table(build_items(5), make_captions(), make_config(), encoders=LazyModel(" ".join(MODELS), lambda: encoders))
        write_table(tmp_path / f"{name}.parquet", table, EMBEDDINGS, provenance={})
        files.append((tmp_path / f"{name}.parquet").read_bytes())
    assert files[0] == files[1]
    again = embed(build_items(5), make_captions(), make_config(), encoders=LazyModel(" ".join(("clip-2", "vit-1", "float32")), lambda: encoders))
    assert again.summary.reused == 0


def test_nothing_but_broken_items_is_an_error_with_the_first_reason(encoders: Encoders) -> None:
    items = build_items(0)
    broken = items.filter(pa.array([name in REJECTED for name in items["item_id"].to_pylist()]))
    with pytest.raises(ValueError, match="No item could be embedded; the first reason: The image is blank"):
        embed_table(broken, make_captions(), make_config(), encoders=LazyModel(" ".join(MODELS), lambda: encoders))


@pytest.mark.parametrize(
    ("caption", "text", "kind", "expected"),
    [
        ("a dog", "Rex", "caption", "a dog"),
        ("a dog", "Rex", "caption+text", "a dog. Rex"),
        ("a dog.", "Rex\n the  dog", "caption+text", "a dog. Rex the dog"),
        ("", "Rex", "caption", "Rex"),
        (" ", "Rex", "caption+text", "Rex"),
        ("a dog", "", "caption+text", "a dog"),
        ("", " ", "caption", ""),
        ("a neon dog", "Rex", "text", "Rex"),
        ("a dog", " ", "text", "a dog"),
        ("a neon dog", "Rex\nthe dog", "text+category", "Rex the dog, pets"),
        ("a dog", "", "text+category", "a dog, pets"),
        ("", "", "text+category", ""),
        ("a dog", "Rex d41d8cd98f00b204e9800998ecf8427e", "text", "Rex"),
        ("a dog", "4006381333931", "text", "a dog"),
    ],
)
def test_the_semantic_text_is_the_caption_or_what_there_is(caption: str, text: str, kind: str, expected: str) -> None:
    assert build_semantic_text(caption, text, kind, category=" pets") == expected


@pytest.mark.parametrize(
    "category", ["", "d41d8cd98f00b204e9800998ecf8427e", "550e8400-e29b-41d4-a716-446655440000", "1004", "0x1f", "C_1004", "cate 7"]
)
def test_an_item_without_a_category_or_with_a_code_for_one_is_encoded_by_its_text(category: str) -> None:
    assert build_semantic_text("a dog", "Rex", "text+category", category=category) == "Rex"


def test_of_a_list_of_categories_only_the_codes_are_left_out() -> None:
    assert build_semantic_text("", "Rex", "text+category", category="Animals > 1004 > Dogs") == "Rex, Animals, Dogs"
    assert build_semantic_text("", "Rex", "text+category", category="animals|dogs") == "Rex, animals|dogs"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_a_vector_that_overflowed_is_named(bad: float) -> None:
    good, mixed = np.array([[0.6, 0.8], [0.6, 0.8]], np.float32), np.array([[0.6, 0.8], [bad, bad]], np.float32)
    assert find_faults({"semantic": good, "visual": good}) == {}
    assert find_faults({"semantic": good, "visual": mixed}) == {1: "The visual vector is not finite or has no length."}
