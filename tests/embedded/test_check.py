"""Figures of artists' drawings by hand. Run: python -m pytest tests/embedded/test_check.py"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from embedded import check, check_artists
from embedded.artist_drawings import ArtistDrawings
from embedded.summaries import summarise
from embedded.texts import list_drawn_name_texts, list_look_texts
from embedded.visible_words import Words
from pipeline.data.artmoji import FAMILIES, Thing

RED, BLUE = Words(("red",), "no", "flat"), Words(("blue", "white"), "a dark", "flat")


def test_models_that_learn_from_stickers_are_measured_without_the_family_that_the_stickers_are() -> None:
    things = [Thing("1f34e", "apple", "Food", "fruit"), Thing("1f980", "crab", "Animals", "bug")]
    held_out = torch.zeros(2, len(FAMILIES), dtype=torch.bool)
    held_out[0, FAMILIES.index("openmoji")] = held_out[1, FAMILIES.index("noto")] = True
    drawings = ArtistDrawings(things, torch.zeros(2, len(FAMILIES), 3, 1, 1, dtype=torch.uint8), held_out)
    assert check_artists.list_held_out(drawings, seen_as_stickers=True).tolist() == [[0, 3], [1, 0]]
    assert check_artists.list_held_out(drawings, seen_as_stickers=False).tolist() == [[1, 0]]


def test_clip_is_asked_for_the_thing_among_all_names_and_for_the_words_among_all_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {list_drawn_name_texts("apple")[1]: 0, list_drawn_name_texts("crab")[1]: 1, list_look_texts(RED)[1]: 2, list_look_texts(BLUE)[1]: 3}
    images = torch.tensor([[1.0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]])  # an apple in red, another in blue, a crab in blue
    monkeypatch.setattr(check_artists, "encode_images", lambda images: (images, lambda texts: torch.eye(4)[[axes[text] for text in texts]]))
    found = check_artists.measure_clip(images, torch.tensor([0, 1, 1]), ("apple", "crab"), [RED, RED, BLUE], [RED, BLUE])
    assert {key: values.tolist() for key, values in found.items()} == {
        "clip_thing_artists": [True, False, True],
        "clip_colour_artists": [True, False, True],
        "clip_outline_artists": [True, False, True],
        "clip_shading_artists": [True, True, True],
    }


def test_captions_count_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a red apple with no outline and flat shading", "a red crab with a dark outline and flat shading", "a neon sticker of a crab"]
    monkeypatch.setattr(check_artists, "caption", lambda images: texts)
    found = check_artists.measure_captioner(torch.zeros(3), ["apple", "crab", "crab"], [RED, BLUE, BLUE])
    assert {key: values.tolist() for key, values in found.items()} == {
        "caption_thing_artists": [True, True, False],
        "caption_colour_artists": [True, False, False],
        "caption_outline_artists": [True, True, False],
        "caption_shading_artists": [True, True, False],
    }


def test_a_missing_judge_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.models.folders.SHIPPED_DIR", tmp_path)
    with pytest.raises(ValueError, match="embedded/weights/artist_judge holds no files, train it with the recipes in embedded/"):
        check_artists.measure_judge(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.long))


def test_a_figure_is_a_mean_with_its_interval() -> None:
    figure = summarise(torch.tensor([1.0] * 75 + [0.0] * 25))
    assert (figure["value"], figure["n"]) == (0.75, 100)
    low, high = figure["interval"]
    assert 0.64 < low < 0.69  # 0.75 less two standard errors of 0.043
    assert 0.81 < high < 0.85


def test_figures_of_all_concepts_are_marked_but_seconds_are_not_repeated() -> None:
    marked = check.mark_all({"judge_style": torch.ones(1), "draw_seconds": torch.ones(1)})
    assert list(marked) == ["judge_style_all"]
