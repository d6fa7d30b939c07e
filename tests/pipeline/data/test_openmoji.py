"""Concepts, the six styles and the held-out tenth. Run: python -m pytest tests/pipeline/data/test_openmoji.py"""

from __future__ import annotations

import io
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from pipeline.data.images import encode_png
from pipeline.data.openmoji import STYLES, is_held_out, read_concepts, render_sticker

HEDGEHOG = "1F994"


def test_concepts_have_unique_codes_and_names_in_a_fixed_order() -> None:
    concepts = read_concepts()
    assert 1200 <= len(concepts) <= 1400
    assert len({concept.hexcode for concept in concepts}) == len({concept.name for concept in concepts}) == len(concepts)
    assert [concept.name for concept in read_concepts(3)] == ["dog", "rose", "hamburger"]


def test_the_default_universe_is_balanced_over_eight_groups() -> None:
    sizes = Counter(concept.group for concept in read_concepts(300))
    assert len(sizes) == 8
    assert min(sizes.values()) >= 30
    first = Counter(concept.group for concept in read_concepts(64))
    assert set(first.values()) == {8}


@pytest.mark.parametrize("limit", [0, -1, 10**6])
def test_an_impossible_number_of_concepts_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="number of concepts"):
        read_concepts(limit)


@pytest.mark.parametrize("style", STYLES)
def test_a_sticker_is_opaque_rgb_of_the_size_asked_for_and_always_the_same(style: str) -> None:
    first, second = (render_sticker(HEDGEHOG, style, size=48) for _ in range(2))
    assert first.shape == (48, 48, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert first.std() > 10


def test_styles_differ_clearly_from_each_other() -> None:
    drawn = {style: render_sticker(HEDGEHOG, style, size=64).astype(float) for style in STYLES}
    for first, second in combinations(STYLES, 2):
        assert np.abs(drawn[first] - drawn[second]).mean() > 12, (first, second)  # grey levels of 255


def test_an_outline_has_no_colour() -> None:
    image = render_sticker(HEDGEHOG, "outline", size=64).astype(int)
    assert np.ptp(image, axis=2).max() == 0


def test_every_default_concept_can_be_drawn_in_every_style() -> None:
    for concept in read_concepts(300)[::10]:
        for style in STYLES:
            assert render_sticker(concept, style, size=16).std() > 2, (concept.name, style)


def test_unknown_styles_and_codes_are_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="unknown style 'oil', choose one of classic"):
        render_sticker(HEDGEHOG, "oil", size=64)
    with pytest.raises(ValueError, match="unknown style 'oil'"):
        is_held_out(HEDGEHOG, "oil")
    with pytest.raises(ValueError, match="no emoji 'NOPE'"):
        render_sticker("NOPE", "classic", size=64)
    with pytest.raises(ValueError, match="size 0"):
        render_sticker(HEDGEHOG, "classic", size=0)


def test_a_tenth_of_all_pairs_is_held_out_and_no_classic_one() -> None:
    codes = [concept.hexcode for concept in read_concepts()]
    held = [is_held_out(code, style) for code in codes for style in STYLES]
    assert 0.09 < np.mean(held) < 0.11
    assert not any(is_held_out(code, "classic") for code in codes)


def test_png_bytes_are_stable_lossless_and_without_metadata() -> None:
    sticker = render_sticker(HEDGEHOG, "neon", size=64)
    data = encode_png(Image.fromarray(sticker))
    assert data == encode_png(Image.fromarray(sticker.copy()))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), sticker)
        assert not image.info
