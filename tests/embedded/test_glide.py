"""The recipe of the small GLIDE. Run: python -m pytest tests/embedded/test_glide.py"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedded import train_glide, training
from embedded.examples import Examples
from embedded.glide_lessons import GlideRecipe, Learner, build_lessons, compute_noise_loss, draw_texts, draw_tint, shrink
from embedded.train_glide import save_model, save_tokenizer, train, train_tokenizer
from embedded.training import LoopConfig
from pipeline.data.openmoji import STYLES
from pipeline.models.glide.model import load_glide
from pipeline.models.glide.sampling import compute_alphas
from pipeline.models.glide.tokens import load_tokenizer
from pipeline.models.glide.unet import GlideUnet
from tests.tiny_glide import build_shapes

RECIPE = GlideRecipe(text_tokens=12, text_steps=0)
WORDINGS = [["a neon hammer", "hammer, neon"], ["a flat nail", "nail, flat"], ["an outline nail", "nail, outline"]]
TOKENIZER = train_tokenizer(["a sticker of a hammer", *(text for row in WORDINGS for text in row)] * 2, 300)
ALPHAS = torch.from_numpy(compute_alphas("squaredcos_cap_v2")).float()


def make_examples() -> Examples:
    outline = STYLES.index("outline")
    images = torch.randint(256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Examples(images, torch.tensor([0, 2, outline]), torch.tensor([0, 1, 1]), ["hammer", "nail"], ["tools", "tools"], num_stickers=3)


def test_the_tokenizer_is_written_in_the_official_format_with_the_padding_last(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    read = load_tokenizer(tmp_path)
    assert (read.size, read.padding_id) == (TOKENIZER.size, TOKENIZER.size - 1)
    assert json.loads((tmp_path / "encoder.json").read_text())["<|endoftext|>"] == read.padding_id
    assert 257 < read.size <= 300  # bytes, padding, and merges
    for text in ("a neon hammer", "Nail, ünseen"):
        assert read.encode(text) == TOKENIZER.encode(text)
    assert len(read.encode("a nail")) < len("a nail")


def test_a_fifth_of_the_texts_is_dropped_and_some_name_the_thing_alone() -> None:
    lessons = build_lessons(make_examples(), WORDINGS, TOKENIZER, RECIPE)
    assert lessons.pool.tolist() == [0, 1, 2, 2, 2]  # the outline style more often
    chosen = torch.zeros(4000, dtype=torch.long)
    ids, is_text = draw_texts(lessons, chosen, RECIPE, torch.Generator().manual_seed(0))
    assert (~is_text.any(dim=1)).float().mean().item() == pytest.approx(0.2, abs=0.02)
    texts = [[TOKENIZER.tokenizer.id_to_token(number) for number in row[mask].tolist()] for row, mask in zip(ids, is_text, strict=True)]
    written = ["".join(tokens).replace("Ġ", " ") for tokens in texts]
    names = {"hammer", "a hammer", "a sticker of a hammer"}
    assert set(written) == {"", *WORDINGS[0], *names}
    assert sum(text in names for text in written) / len(written) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("name", ["base", "upsample"])
def test_an_untrained_model_that_sees_no_noise_errs_by_the_noise_itself_weighted_as_the_velocity(name: str) -> None:
    shape = build_shapes()[name]
    model = GlideUnet(shape)  # its last layer is 0
    images = torch.rand(64, 3, 16, 16) * 2 - 1
    ids, is_text = TOKENIZER.pad(["nail"] * 64, 12)
    ids = ids % shape.vocabulary
    loss = compute_noise_loss(model, images, model.read_text(ids, is_text), RECIPE, ALPHAS, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(1000, (64,), generator=generator)
    noise = torch.randn(64, 3, shape.image_size, shape.image_size, generator=generator)
    if name == "upsample":
        noise += draw_tint(noise, shape.low_res_size, RECIPE.tint, generator)
    errors = noise.square().mean(dim=(1, 2, 3)).tolist()
    weights = [min(1.0, RECIPE.max_snr * (1 - alpha) / alpha) / max(alpha, RECIPE.least_alpha) for alpha in ALPHAS[steps].tolist()]
    expected = sum(weight * error for weight, error in zip(weights, errors, strict=True)) / sum(weights)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_tint_is_of_large_areas_and_of_any_strength_up_to_the_most() -> None:
    tint = draw_tint(torch.zeros(2000, 3, 8, 8), 2, 0.5, torch.Generator().manual_seed(0))
    corners = tint[:, :, ::4, ::4]
    assert torch.equal(tint, corners.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))
    assert corners.mean().item() == pytest.approx(0, abs=0.02)
    # a strength uniform up to 1/2 has a mean square of 1/12; grid and whole have a variance of 1 each, and areas share the whole
    assert corners.square().mean().item() == pytest.approx(2 / 12, rel=0.05)
    assert (corners[..., 0, 0] * corners[..., 1, 1]).mean().item() == pytest.approx(1 / 12, rel=0.15)


def test_at_first_the_text_side_alone_learns() -> None:
    shape = build_shapes()["base"]
    learner = Learner(GlideUnet(shape), replace(RECIPE, text_steps=1), num_things=2)
    ids, is_text = TOKENIZER.pad(["nail", ""], 12)

    def list_learning() -> set[str]:
        learner.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(0)
        learner(torch.rand(2, 3, 16, 16), torch.tensor([1, 0]), ids % shape.vocabulary, is_text, ALPHAS, generator)[0].backward()
        return {name.split(".")[1] for name, parameter in learner.named_parameters() if parameter.grad is not None}

    first, second = list_learning(), list_learning()
    assert {"token_embedding", "transformer", "transformer_proj"} <= first < second
    assert "out" in second - first


def test_no_thing_is_asked_of_a_text_that_is_dropped() -> None:
    shape = build_shapes()["base"]
    learner = Learner(GlideUnet(shape), replace(RECIPE, text_steps=9), num_things=2)
    ids, is_text = TOKENIZER.pad(["nail", "hammer"], 12)
    images, things, ids = torch.rand(2, 3, 16, 16), torch.tensor([1, 0]), ids % shape.vocabulary
    first_alone = torch.tensor([[True], [False]]) & is_text
    wanted, _ = learner(images[:1], things[:1], ids[:1], is_text[:1], ALPHAS, torch.Generator())
    found, _ = learner(images, things, ids, first_alone, ALPHAS, torch.Generator())
    assert found.item() == pytest.approx(wanted.item(), rel=0.05)  # bfloat16
    assert learner(images, things, ids, is_text & False, ALPHAS, torch.Generator())[0].item() == 0


def test_the_variance_is_left_as_it_is() -> None:
    model = GlideUnet(build_shapes()["base"])
    ids, is_text = TOKENIZER.pad(["nail"] * 4, 12)
    text = model.read_text(ids % 200, is_text)
    compute_noise_loss(model, torch.rand(4, 3, 16, 16), text, RECIPE, ALPHAS, torch.Generator().manual_seed(0)).backward()
    assert model.out[2].weight.grad[3:].abs().max() == 0
    assert model.out[2].weight.grad[:3].abs().max() > 0


def test_a_small_picture_is_a_mean_of_pixels() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert shrink(picture, 2)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_what_the_recipe_writes_is_loaded_as_the_official_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_glide, "GLIDE_DIR", tmp_path / "glide")
    monkeypatch.setattr(training, "TRAIN_DIR", tmp_path / "train")
    monkeypatch.setattr(training, "CURVES_DIR", tmp_path / "curves")
    monkeypatch.setattr(train_glide, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(training, "DEVICE", torch.device("cpu"))
    loop = LoopConfig(steps=2, peak_rate=1e-3, warmup_steps=1, log_steps=1)
    recipe = replace(RECIPE, batch_size=2, upsample_batch_size=2, loop=loop)
    shapes = {name: replace(shape, vocabulary=TOKENIZER.size) for name, shape in build_shapes().items()}
    save_tokenizer(TOKENIZER, tmp_path / "glide")
    (tmp_path / "glide" / "config.json").write_text(json.dumps({name: asdict(shape) for name, shape in shapes.items()}))
    lessons, held = build_lessons(make_examples(), WORDINGS, TOKENIZER, recipe), make_examples()
    for name in ("base", "upsample"):
        train(f"glide_{name}", shapes[name], lessons, held, TOKENIZER, recipe, goes_on=False)
    glide = load_glide(str(tmp_path / "glide"))
    assert glide.base.shape == shapes["base"]
    for name, steps in (("base", 2), ("upsample", 1)):  # the upsampler takes half as many
        last = json.loads((tmp_path / "curves" / f"glide_{name}.jsonl").read_text().splitlines()[-1])
        assert last["step"] == steps
        assert last["held_out_loss"] > 0
    assert load_file(tmp_path / "glide" / "base.safetensors")["out.2.weight"].dtype == torch.float16
    save_model(glide.base.state_dict(), "base.pt")  # and again
    assert load_glide(str(tmp_path / "glide")).base.out[2].weight.abs().max() > 0
