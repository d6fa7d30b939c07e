"""The recipe of the small LaVIT. Run: python -m pytest tests/embedded/test_lavit.py"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from embedded import train_lavit, training
from embedded.lavit_coder import CodeReader, LavitRecipe, PictureCoder, copy_eyes, find_inner, mix_codes, scale_pixels, tell_apart
from embedded.lavit_language import IGNORED, LanguageLessons, build_batch, build_language, build_tokenizer, save_language
from embedded.lavit_lessons import Lessons
from embedded.train_lavit import save_coder, train_coder, train_decoder, train_language
from embedded.training import ROOT, LoopConfig
from pipeline.baselines.lavit.config import LavitConfig
from pipeline.models import folders
from pipeline.models.encoders import load_clip
from pipeline.models.lavit.language import load_language, number_parts
from pipeline.models.lavit.model import load_lavit
from pipeline.models.lavit.shape import read_shape
from pipeline.models.lavit.tokenizer import VisualTokenizer
from pipeline.models.lavit.vision import MEAN, STD, build_vision, prepare_images, see
from pipeline.models.official_weights import load_weights
from pipeline.params import load_params
from tests.tiny_lavit import NUM_PATCHES, SHAPE, SIZE

NAMES = ("hammer", "nail", "apple")
LOOP = LoopConfig(steps=2, peak_rate=1e-3, warmup_steps=1, log_steps=1)
SMALL = {"batch_size": 2, "language_batch_size": 2, "code_draws": 2, "history": 2, "free_steps": 0}
RECIPE = LavitRecipe(shape=replace(SHAPE, text_tokens=300), loop=LOOP, decoder_loop=LOOP, language_loop=LOOP, **SMALL)
TOKENIZER = build_tokenizer(NAMES, RECIPE.shape)


def make_lessons() -> Lessons:
    """Three things in three styles; a picture's one colour says which."""
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    images = (pairs[:, :1] * 80 + pairs[:, 1:] * 20).to(torch.uint8)[:, :, None, None].expand(-1, 3, SIZE, SIZE).contiguous()
    captions = torch.randn(3, 3, NUM_PATCHES, SHAPE.lowres_width, generator=torch.Generator().manual_seed(0)).half()
    return Lessons(images, pairs, torch.arange(9).view(3, 3), captions)


def make_language_lessons() -> LanguageLessons:
    """Every picture has one code, its number."""
    pairs = make_lessons().pairs
    return LanguageLessons(list(NAMES), pairs, [[torch.tensor([row]) for row in range(len(pairs))]])


def build_rows(**options: object) -> list[tuple[list[int], list[int]]]:
    """Draw many rows -> prompt without its mark, answer."""
    known = make_language_lessons()
    ids, labels = build_batch(known, known, TOKENIZER, RECIPE.shape, seed=0, size=600, history=2, **options)
    assert ids[labels != IGNORED].equal(labels[labels != IGNORED])
    lengths = (labels != IGNORED).int().argmax(dim=1).tolist()
    rows = [(row[: length - 1].tolist(), label[label != IGNORED].tolist()) for row, label, length in zip(ids, labels, lengths, strict=True)]
    assert all(row[length - 1] == RECIPE.shape.image_start for row, length in zip(ids, lengths, strict=True))
    return rows


def find_codes(prompt: list[int]) -> list[int]:
    return [number - RECIPE.shape.first_code for number in prompt if number >= RECIPE.shape.first_code]


def test_only_the_answer_is_learnt_and_it_is_the_pictures_codes_with_an_end() -> None:
    for _, answer in build_rows():
        assert len(answer) == 2
        assert 0 <= answer[0] - RECIPE.shape.first_code < 9
        assert answer[1] == RECIPE.shape.image_end


def test_liked_pictures_have_the_answers_style_and_the_reference_its_thing() -> None:
    rows = build_rows(only_full=True)
    styles_right = 0
    for prompt, answer in rows:
        *liked, reference = find_codes(prompt)
        thing, style = divmod(answer[0] - RECIPE.shape.first_code, 3)
        assert reference // 3 == thing
        assert reference % 3 != style
        assert len(liked) == 2
        styles_right += sum(code % 3 == style and code // 3 != thing for code in liked)
        words = TOKENIZER.decode([number for number in prompt if number < RECIPE.shape.text_tokens])
        assert NAMES[thing] in words
    # of a stray, which is in 0.3 of the rows, 2 of 9 are no strays at all
    assert styles_right / (2 * len(rows)) == pytest.approx(1 - 0.15 * 7 / 9, abs=0.03)


def test_some_rows_have_no_prompt_and_some_the_picture_itself_alone() -> None:
    rows = build_rows()
    assert sum(not prompt for prompt, _ in rows) / len(rows) == pytest.approx(0.1, abs=0.04)
    alone = [(find_codes(prompt), answer) for prompt, answer in rows if len(find_codes(prompt)) == 1]
    assert len(alone) / len(rows) == pytest.approx(0.9 * 0.25, abs=0.05)
    assert all(codes[0] == answer[0] - RECIPE.shape.first_code for codes, answer in alone)


def test_the_tokenizer_begins_with_llamas_marks_and_leaves_codes_room() -> None:
    assert TOKENIZER.convert_ids_to_tokens([0, 1, 2]) == ["<unk>", "<s>", "</s>"]
    assert len(TOKENIZER) <= RECIPE.shape.text_tokens
    assert build_tokenizer(NAMES, RECIPE.shape).get_vocab() == TOKENIZER.get_vocab()
    ids = number_parts(["a hammer, ünseen"], TOKENIZER, RECIPE.shape)
    assert TOKENIZER.decode(ids).strip() == "a hammer, ünseen"


def test_pixels_are_scaled_as_the_pipeline_scales_them() -> None:
    images = make_lessons().images[4:6]
    expected = prepare_images([Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images], SIZE)
    assert torch.allclose(scale_pixels(images), expected, atol=1e-6)


def test_every_part_of_the_coder_learns() -> None:
    coder, lessons = PictureCoder(RECIPE), make_lessons()
    generator = torch.Generator().manual_seed(0)
    rows = lessons.draw_rows(16, generator)
    states, donors = lessons.find_states(lessons.pairs[rows]), torch.arange(16)
    loss, figures = coder(lessons.images[rows], lessons.pairs[rows, 1], donors, states, generator)
    loss.backward()
    silent = {name for name, parameter in coder.named_parameters() if parameter.grad is None or not parameter.grad.abs().max()}
    last = f"vision.blocks.{RECIPE.shape.vision_layers - 1}."
    assert silent == {name for name, _ in coder.named_parameters() if name.startswith("vision.") and not name.startswith(last)}
    assert set(figures) == {"error", "apart", "alike", "kept", "codes_used"}


def test_a_batch_shows_its_things_twice_and_takes_styles_over_from_pairs_that_may_be_learnt_from() -> None:
    lessons, generator = make_lessons(), torch.Generator().manual_seed(0)
    lessons.row_of[0, 2] = -1  # held out
    rows = lessons.draw_rows(400, generator)
    first, second = lessons.pairs[rows].chunk(2)
    assert first[:, 0].equal(second[:, 0])
    assert (first[:, 1] != second[:, 1]).all()
    assert not ((second[:, 0] == 0) & (second[:, 1] == 2)).any()
    donors = lessons.draw_donors(rows, 0.5, generator)
    mixed = torch.stack([lessons.pairs[rows, 0], lessons.pairs[rows[donors], 1]], dim=1)
    asked = lessons.pairs[rows].eq(torch.tensor([0, 2])).all(dim=1)
    assert not (mixed.eq(torch.tensor([0, 2])).all(dim=1) & ~asked).any()
    assert 0.35 < (donors != torch.arange(400)).float().mean() < 0.5


def test_inner_patches_stay_and_outer_ones_come_from_the_donor() -> None:
    coder = PictureCoder(replace(RECIPE, shape=LavitRecipe().shape))
    assert find_inner(16).nonzero()[:, 0].tolist() == [5, 6, 9, 10]
    keep = torch.zeros(2, 16, dtype=torch.bool)
    keep[0, [0, 5]], keep[1, [3, 10, 15]] = True, True
    passed = torch.tensor([[0.0], [5.0], [103.0], [110.0], [115.0]])
    mixed = coder.mix(passed, keep, torch.tensor([1, 1]))
    assert [part[:, 0].tolist() for part in mixed] == [[103.0, 5.0, 115.0], [103.0, 110.0, 115.0]]
    keep[1] = torch.arange(16) == 5  # the donor has inner patches alone, and the picture outer ones
    keep[0] = torch.arange(16) == 0
    assert [part[:, 0].tolist() for part in coder.mix(passed[:2], keep, torch.tensor([1, 0]))] == [[0.0], [0.0, 5.0]]


def test_things_and_styles_are_compared_where_they_are_to_be_alike() -> None:
    coder, keep, style = PictureCoder(replace(RECIPE, shape=LavitRecipe().shape)), torch.ones(4, 16, dtype=torch.bool), torch.tensor([0, 1, 1, 0])
    vectors = functional.normalize(torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    inner = find_inner(16)
    vectors[2:, inner], vectors[3, ~inner], vectors[2, ~inner] = vectors[:2, inner], vectors[0, ~inner], vectors[1, ~inner]
    assert coder.compare(vectors, keep, style) == pytest.approx(0, abs=1e-5)
    assert coder.compare(vectors, keep, torch.tensor([0, 0, 1, 1])) > 0.2  # outer ones of a style differ
    vectors[2:, inner] *= -1
    assert coder.compare(vectors, keep, style) == pytest.approx(2, abs=1e-5)


def test_eyes_see_what_the_image_tower_of_the_shipped_clip_sees() -> None:
    clip = load_file(folders.SHIPPED_DIR / "clip" / "trained.safetensors")
    shape = LavitRecipe().shape
    eyes = build_vision(replace(shape, vision_layers=shape.vision_layers - 1)).eval()  # without the block that learns
    missing, unexpected = eyes.load_state_dict(copy_eyes(clip), strict=False)
    assert (missing, unexpected) == (["norm.weight", "norm.bias", "head.weight", "head.bias"], [])
    tower, pixels = load_clip("embedded/clip")._model.visual, torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        patches = tower.conv1((pixels - 0.5) / 0.5).flatten(2).transpose(1, 2)
        words = torch.cat([tower.class_embedding.expand(3, 1, -1), patches], dim=1) + tower.positional_embedding
        wanted = tower.transformer(tower.ln_pre(words))[:, 1:]
        seen = see(eyes, (pixels - mean) / std)
    assert (seen - wanted).abs().max() < 1e-3 * wanted.abs().max()  # their norms divide by spreads of which they take 1e-6 and 1e-5 for 0


def test_captions_are_told_apart_by_what_they_do_not_share() -> None:
    states, order = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    shared = 100 * torch.ones(4, 8)
    right, wrong = (tell_apart(decoded + shared, states + shared, order, 20.0) for decoded in (states, states.roll(1, dims=0)))
    assert right < 0.1 < 2 < wrong
    assert tell_apart(states[4:] + shared, states + shared, order[4:], 20.0) < 0.1


def test_codes_of_two_pictures_are_put_together_at_their_patches() -> None:
    codes = torch.full((2, 16), -1)
    codes[0, [0, 5]], codes[1, [3, 10, 15]] = torch.tensor([7, 8]), torch.tensor([1, 2, 3])
    assert [part.tolist() for part in mix_codes(codes, torch.tensor([1, 0]))] == [[1, 8, 3], [7, 2]]
    codes[0, 5], codes[1, [3, 15]] = -1, -1
    assert [part.tolist() for part in mix_codes(codes, torch.tensor([1, 0]))] == [[7], [7, 2]]


def test_the_decoder_alone_learns_from_codes_that_stay() -> None:
    coder, lessons = PictureCoder(RECIPE), make_lessons()
    reader = CodeReader(coder, lessons)
    loss, figures = reader(lessons, torch.Generator().manual_seed(0))
    loss.backward()
    silent = {name for name, parameter in coder.named_parameters() if parameter.grad is None or not parameter.grad.abs().max()}
    assert silent == {name for name, _ in coder.named_parameters() if not name.startswith("decoder.")}
    assert set(figures) == {"error", "apart"}
    assert set(reader.state_dict()) == {name for name in coder.state_dict() if name.startswith("decoder.")}


def test_a_picture_keeps_one_patch_at_least() -> None:
    coder = PictureCoder(RECIPE)
    never = torch.tensor([-50.0, 0.0]).expand(3, NUM_PATCHES, 2)
    _, keep = coder.choose(never, torch.Generator().manual_seed(0))
    assert keep.sum(dim=1).tolist() == [1, 1, 1]


def test_codes_that_nothing_uses_begin_anew() -> None:
    coder = PictureCoder(replace(RECIPE, revive_steps=2))
    vectors = functional.normalize(torch.randn(4, SHAPE.code_width), dim=-1)
    before = coder.tokenizer.quantize.embedding.weight.detach().clone()
    coder.usage.fill_(1.0)
    coder.usage[7] = 0.0
    generator = torch.Generator().manual_seed(0)
    coder.count_codes(torch.tensor([1, 1]), vectors, generator)
    assert coder.tokenizer.quantize.embedding.weight.equal(before)  # not yet
    coder.count_codes(torch.tensor([1, 1]), vectors, generator)
    after = coder.tokenizer.quantize.embedding.weight
    assert (after != before).any(dim=1).nonzero().flatten().tolist() == [7]
    assert any(after[7].equal(vector) for vector in vectors)


def test_at_first_vectors_are_decoded_and_then_all_codes_begin_at_vectors() -> None:
    coder, lessons = PictureCoder(replace(RECIPE, free_steps=2)), make_lessons()

    def measure_error() -> float:
        generator, pairs = torch.Generator().manual_seed(0), lessons.pairs[:8]
        return coder(lessons.images[:8], pairs[:, 1], torch.arange(8), lessons.find_states(pairs), generator)[1]["error"].item()

    error, codebook = measure_error(), coder.tokenizer.quantize.embedding.weight
    with torch.no_grad():
        codebook.copy_(codebook.flip(0) + 1)
    assert measure_error() == pytest.approx(error)  # the last free step, after which every code is a vector of its batch
    assert len(codebook.unique(dim=0)) <= len(lessons.images) * NUM_PATCHES
    with torch.no_grad():
        codebook.copy_(torch.ones_like(codebook))
    assert measure_error() != pytest.approx(error)


def test_what_the_recipe_writes_is_loaded_as_the_official_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_lavit, "LAVIT_DIR", tmp_path / "lavit")
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "train")
    monkeypatch.setattr(training, "CURVES_DIR", tmp_path / "curves")
    for module in (train_lavit, training):
        monkeypatch.setattr(module, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(train_lavit, "encode_texts", lambda texts: (torch.zeros(1, 5, SHAPE.lowres_width).half(), None))
    lessons = make_lessons()
    train_coder(lessons, lessons, RECIPE, goes_on=False)
    train_decoder(lessons, lessons, RECIPE, goes_on=True)
    train_language(NAMES, lessons, lessons, RECIPE, goes_on=False)
    folder = tmp_path / "lavit"
    assert sorted(path.name for path in folder.iterdir()) == ["language_model", "lavit.json", "pixel_decoding", "visual_tokenizer"]
    shape = read_shape(folder)
    with torch.device("meta"):
        tokenizer = VisualTokenizer(shape)
    load_weights(tokenizer, folder / "visual_tokenizer" / "tokenizer_encoder.bin", source="")
    language = load_language(folder / "language_model", shape, device="cpu", dtype=torch.float32)
    assert language.context == 640
    for name, figure in (("lavit_coder", "held_out_style"), ("lavit_decoder", "held_out_mixed_thing"), ("lavit_language", "held_out_loss")):
        last = json.loads((tmp_path / "curves" / f"{name}.jsonl").read_text().splitlines()[-1])
        assert last["step"] == 2
        assert figure in last
    train_language(NAMES, lessons, lessons, RECIPE, goes_on=True)  # from what was written


def test_the_recipes_own_shape_fits_the_shipped_drawing_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained: a picture of 64 px is seen, codes are written, and the shipped U-Net draws from them."""
    recipe, config = LavitRecipe(), load_params(ROOT / "params.yaml", "lavit", LavitConfig)
    shutil.copytree(folders.SHIPPED_DIR / "diffusion", tmp_path / "shipped" / "diffusion")
    monkeypatch.setattr(folders, "SHIPPED_DIR", tmp_path / "shipped")
    monkeypatch.setattr(train_lavit, "LAVIT_DIR", tmp_path / "shipped" / "lavit")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    save_coder(PictureCoder(recipe).state_dict(), recipe)
    save_language(build_language(recipe.shape, None), build_tokenizer(NAMES, recipe.shape), train_lavit.LAVIT_DIR)
    lavit = load_lavit("embedded/lavit", pixels=config.sampling.pixels)
    (reference,) = lavit.read_images([Image.new("RGB", (80, 40), "red")], [torch.Generator().manual_seed(0)])
    assert 0 < len(reference) < recipe.shape.num_patches
    parts = lavit.fit_prompt("a hammer", reference, [reference] * 5, config.sampling)
    assert sum(isinstance(part, torch.Tensor) for part in parts) == 6  # all pictures are shown
    codes = lavit.write_codes(parts, torch.Generator().manual_seed(0), config.sampling)
    drawn = lavit.draw_codes([codes], [torch.Generator().manual_seed(0)], replace(config.sampling, steps=2))
    assert drawn.shape == (1, 64, 64, 3)
    assert drawn.std() > 5
