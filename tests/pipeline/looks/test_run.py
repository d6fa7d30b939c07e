"""From tables to look tokens. Run: python -m pytest tests/pipeline/looks"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from pipeline.artifacts import build_table
from pipeline.keywords.preference import PreferenceConfig
from pipeline.looks.read import encode_pooled, read_looks
from pipeline.looks.run import LookBuilder, build_looks
from pipeline.models.fake import FakeDiffusion, make_vector
from pipeline.models.look import LookMap, LookShape
from pipeline.schemas import CASES, EMBEDDINGS, RETRIEVED
from tests.configs import PREFERENCE

DIFFUSION = FakeDiffusion(token_dim=5)
SHAPE = LookShape(visual_dim=6, text_dim=5, width=7, num_tokens=3, token_dim=5)
ITEMS = [f"i{index}" for index in range(6)]
TEXTS = {item_id: f"thing {item_id}" for item_id in ITEMS[:5]}  # the last has no text
CONFIG = replace(PREFERENCE, visual_tokens=3, look_items="all", look_temperature=0.5, look_consensus=0.0)


def build_map() -> LookMap:
    torch.manual_seed(0)
    return LookMap(SHAPE).eval()


def draw_units(rows: int, width: int, seed: int) -> torch.Tensor:
    return functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


SEMANTIC, VISUAL = draw_units(6, 4, 1), draw_units(6, 6, 2)


def build_embeddings() -> pa.Table:
    rows = [
        {"item_id": item_id, "semantic": semantic.numpy(), "visual": visual.numpy(), "clip_image": visual.numpy()}
        for item_id, semantic, visual in zip(ITEMS, SEMANTIC, VISUAL, strict=True)
    ]
    return build_table(rows, EMBEDDINGS)


def make_case(**changes: Any) -> dict[str, Any]:
    case = {"case_id": "c", "user_id": "u", "split": "test", "history": ITEMS[:4], "reference_id": "i4", "truth_id": None}
    return {**case, **changes}


def make_builder(config: PreferenceConfig = CONFIG) -> LookBuilder:
    return LookBuilder(config, build_embeddings(), TEXTS, center=False, look=build_map(), diffusion=DIFFUSION)


def build(config: PreferenceConfig = CONFIG, retrieved: list[dict[str, Any]] | None = None, **changes: Any) -> list[dict[str, Any]]:
    tables = build_table([make_case(**changes)], CASES), build_table(retrieved or [], RETRIEVED)
    return build_looks(*tables, make_builder(config))


def test_a_texts_vector_is_the_unit_mean_of_its_tokens_states_without_padding() -> None:
    mean = torch.stack([make_vector(word, 5) for word in ("<first>", "red", "dog")]).mean(dim=0)
    torch.testing.assert_close(encode_pooled(["red dog"], DIFFUSION)[0], functional.normalize(mean, dim=0))


@torch.no_grad()
def test_a_look_is_the_maps_and_depends_on_its_own_item_alone() -> None:
    look, texts = build_map(), [TEXTS.get(item_id, "") for item_id in ITEMS]
    whole = read_looks(look, VISUAL, texts, DIFFUSION)
    torch.testing.assert_close(whole, look.map_items(VISUAL, encode_pooled(texts, DIFFUSION)))
    assert torch.equal(read_looks(look, VISUAL[2:3], texts[2:3], DIFFUSION)[0], whole[2])


@torch.no_grad()
def test_the_tokens_are_those_of_the_whole_history_weighed_by_similarity_to_the_reference() -> None:
    (row,) = build()
    cosine = SEMANTIC[:4] @ SEMANTIC[4]
    weights = torch.softmax(cosine / 0.5, dim=0)
    order = cosine.argsort(descending=True).tolist()
    assert row["item_ids"] == [ITEMS[place] for place in order]
    assert row["weights"] == pytest.approx(weights[order].tolist(), abs=1e-5)  # similarities are rounded at 6 decimals
    look = build_map()
    looks = read_looks(look, VISUAL, [TEXTS.get(item_id, "") for item_id in ITEMS], DIFFUSION)
    np.testing.assert_allclose(row["tokens"], look.write_tokens(looks[None, :4], weights[None])[0].flatten(), atol=1e-5)


def test_the_retrieved_items_alone_count_where_that_is_asked_for_and_something_is_retrieved() -> None:
    config = replace(CONFIG, look_items="retrieved")
    retrieved = [{"case_id": "c", "rank": rank, "item_id": f"i{rank}", "similarity": 0.5, "weight": 0.5} for rank in range(2)]
    (row,) = build(config, retrieved)
    assert (sorted(row["item_ids"]), row["weights"]) == (["i0", "i1"], [0.5, 0.5])
    assert sorted(build(config)[0]["item_ids"]) == ITEMS[:4]


def test_users_with_the_same_texts_and_other_pictures_get_other_tokens() -> None:
    rows = []
    for pictures in (VISUAL, VISUAL.flip(0)):
        table = build_embeddings()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(pictures.flatten().numpy()), 6)
        place = table.schema.get_field_index("visual")
        builder = LookBuilder(CONFIG, table.set_column(place, "visual", vectors), TEXTS, center=True, look=build_map(), diffusion=DIFFUSION)
        rows.append(builder.build(make_case(), {}))
    assert rows[0]["weights"] == rows[1]["weights"]
    assert np.abs(rows[0]["tokens"] - rows[1]["tokens"]).max() > 0.01


def test_a_case_without_an_item_that_has_vectors_has_no_look() -> None:
    assert build(history=["gone"]) == []
    assert build(reference_id="gone") == []


def test_a_number_of_tokens_that_the_map_does_not_write_is_refused() -> None:
    with pytest.raises(ValueError, match="visual_tokens is 4, but it must be 0 or 3, as many as the look map writes"):
        make_builder(replace(CONFIG, visual_tokens=4))


def test_a_map_of_other_encoders_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trained for visual vectors \(models.visual\) of width 6, but they have 4"):
        read_looks(build_map(), SEMANTIC, ["a"] * 6, DIFFUSION)
    with pytest.raises(ValueError, match=r"trained for text states \(models.diffusion\) of width 5, but they have 8"):
        read_looks(build_map(), VISUAL, ["a"] * 6, FakeDiffusion())
