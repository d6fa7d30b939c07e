"""Captions of both kinds as the captioner learns them. Run: python -m pytest tests/embedded/test_captions.py"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from embedded import captioner_model
from embedded.artist_drawings import FOLDER
from embedded.captioner_model import PAD, CaptionerConfig, build_captioner, build_processor, export_captioner, load_shipped
from embedded.captions import Caption, CaptionTokens, caption_drawing, caption_sticker, draw_captions, list_words, tokenize_captions
from embedded.stickers import describe_pair
from embedded.train_captioner import MAX_WORDS, compute_views, grade_drawing
from embedded.train_clip import ClipConfig
from embedded.training import ROOT
from embedded.visible_words import COLOURS, Words
from pipeline.captioning import CaptioningConfig
from pipeline.data.artmoji import read_things
from pipeline.data.openmoji import STYLES, read_concepts
from pipeline.params import load_params

HEDGEHOG = Words(("brown", "white"), "a dark", "flat")
ORANGE = Words(("orange",), "no", "two-tone")
SMALL = CaptionerConfig(width=12, heads=2, qformer_layers=1, text_layers=1)
TINY_TOWER = ClipConfig(width=32, layers=1)


def tokenize(captions: list[Caption], looks: tuple[str, ...]) -> tuple[CaptionTokens, object]:
    processor = build_processor(list_words([caption_sticker("hedgehog", "neon"), *captions]), CaptionerConfig())
    return tokenize_captions(processor, captions, looks=looks), processor.tokenizer


def read(tokens: torch.Tensor, tokenizer: object) -> list[str]:
    return [word for word in tokenizer.convert_ids_to_tokens(tokens.tolist()) if word != "<pad>"]


def test_captions_of_stickers_are_as_they_always_were() -> None:
    for name, style, text in (("owl", "outline", "an outline sticker of an owl"), ("hedgehog", "neon", "a neon sticker of a hedgehog")):
        assert caption_sticker(name, style).text == describe_pair(name, style) == text


def test_a_drawing_in_random_colours_names_any_colours_and_is_asked_for_its_name_only() -> None:
    captions, tokenizer = tokenize([caption_drawing("fire engine", HEDGEHOG), caption_drawing("orange", ORANGE)], COLOURS)
    chosen, recoloured = torch.arange(400) % 2, torch.arange(400) % 4 < 2
    given, targets = draw_captions(captions, chosen, recoloured, torch.Generator().manual_seed(0))
    assert torch.equal(given[~recoloured], captions.tokens[chosen[~recoloured]])
    assert torch.equal(targets[~recoloured], given[~recoloured])
    colours = [set(), set(), set()]
    for words, asked, row in zip(given[recoloured], targets[recoloured], chosen[recoloured].tolist(), strict=True):
        said = read(words, tokenizer)
        if row == 0:
            assert " ".join(said[:2] + said[3:4] + said[5:]) == "<s> a and fire engine with a dark outline and flat shading </s>"
            assert read(asked, tokenizer) == ["fire", "engine", "with"]
            colours[0].add(said[2])
            colours[1].add(said[4])
        else:
            assert " ".join(said[:2] + said[3:]) == "<s> an orange with no outline and two-tone shading </s>"
            assert read(asked, tokenizer) == ["orange", "with"]
            colours[2].add(said[2])
    assert colours == [set(COLOURS)] * 3


def test_a_sticker_in_random_colours_names_any_style_and_is_asked_for_what_follows() -> None:
    captions, tokenizer = tokenize([caption_sticker("sea lion", "neon")], STYLES)
    given, targets = draw_captions(captions, torch.zeros(200, dtype=torch.long), torch.ones(200, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert {read(words, tokenizer)[2] for words in given} == set(STYLES)
    assert {tuple(read(asked, tokenizer)) for asked in targets} == {("sticker", "of", "a", "sea", "lion", "</s>")}
    assert (targets[:, :3] == PAD).all()


def test_captions_are_graded_word_by_word() -> None:
    text = "a brown hedgehog with a dark outline and flat shading"
    assert grade_drawing(text, "hedgehog", HEDGEHOG) == {"thing": True, "colour": True, "outline": True, "shading": True}
    assert grade_drawing(text, "dog", ORANGE) == {"thing": False, "colour": False, "outline": False, "shading": False}
    assert grade_drawing(text, "hedgehog", Words(("brown",), "no", "flat")) == {"thing": True, "colour": True, "outline": False, "shading": True}
    assert grade_drawing("a neon sticker of a hedgehog", "hedgehog", HEDGEHOG) == dict.fromkeys(("thing", "colour", "outline", "shading"), False)


def test_the_longest_caption_is_written_to_its_end_by_recipe_and_pipeline() -> None:
    captions = [caption_drawing(thing.name, Words(("red", "white"), "a coloured", "two-tone")) for thing in read_things(ROOT / FOLDER)]
    longest = max(len(caption.text.split()) for caption in captions) + 1  # with the end token
    assert longest == MAX_WORDS == load_params(ROOT / "params.yaml", "captioning", CaptioningConfig).max_new_tokens


def test_a_grown_vocabulary_keeps_the_rows_of_its_old_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner_model, "WEIGHTS_DIR", tmp_path)
    old = build_processor(list_words([caption_sticker("hedgehog", "neon")]), SMALL)
    shipped = build_captioner(SMALL, TINY_TOWER, len(old.tokenizer))
    export_captioner(shipped.state_dict(), build_captioner(SMALL, TINY_TOWER, len(old.tokenizer)), old)
    new = build_processor(list_words([caption_sticker("hedgehog", "neon"), caption_drawing("apple", HEDGEHOG)]), SMALL)
    assert len(new.tokenizer) > len(old.tokenizer)
    grown = build_captioner(SMALL, TINY_TOWER, len(new.tokenizer))
    before = grown.get_input_embeddings().weight.detach().clone()
    load_shipped(grown, new)
    old_words, new_words = old.tokenizer.get_vocab(), new.tokenizer.get_vocab()
    for word, row in new_words.items():
        expected = shipped.get_input_embeddings().weight[old_words[word]].half().float() if word in old_words else before[row]
        assert torch.equal(grown.get_input_embeddings().weight[row], expected), word
        assert torch.equal(grown.language_model.lm_head.weight[row], expected), word
    assert torch.equal(grown.query_tokens, shipped.query_tokens.half().float())


def test_the_first_view_is_plain_and_only_drawings_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CaptionerConfig(views=4, recoloured_views=0)
    monkeypatch.setattr("embedded.train_captioner.augment_images", lambda images, generator: images)
    images = torch.zeros(30, 3, 8, 8, dtype=torch.uint8)
    images[..., :4] = 255

    class Plain(torch.nn.Module):
        def vision_model(self, pixels: torch.Tensor) -> object:
            return type("Output", (), {"last_hidden_state": pixels[:, :1, 0]})()

    views = compute_views(Plain(), images, config, torch.Generator().manual_seed(0), mirrored=True)
    assert (views[:, 0, 0, 0] == 1).all()
    assert 0.3 < (views[:, 1:, 0, 0] == -1).float().mean() < 0.7
    assert (compute_views(Plain(), images, config, torch.Generator().manual_seed(0), mirrored=False)[..., 0] == 1).all()


def test_every_word_of_the_default_stickers_is_in_the_vocabulary() -> None:
    concepts = read_concepts(5)
    words = list_words([caption_sticker(concept.name, style) for concept in concepts for style in STYLES])
    assert {*STYLES, *COLOURS, "sticker", "of", *(word for concept in concepts for word in concept.name.split())} <= set(words)
