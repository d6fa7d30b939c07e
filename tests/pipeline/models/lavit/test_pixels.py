"""Drawing from LaVIT's conditions. Run: python -m pytest tests/pipeline/models/lavit/test_pixels.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel

from pipeline.models.diffusion import NotFiniteError
from pipeline.models.lavit.decoder import Condition
from pipeline.models.lavit.pixels import PixelDecoder, load_pixels
from tests.tiny_lavit import NUM_PATCHES, SAMPLING, SHAPE, SIZE, save_tiny_lavit

HIGHRES = replace(SAMPLING, pixels="highres", height=2 * SIZE, width=SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_lavit(tmp_path_factory.mktemp("lavit") / "lavit")


def load(folder: Path, pixels: str) -> PixelDecoder:
    return load_pixels(folder, pixels, NUM_PATCHES, device="cpu", dtype=torch.float32)


def seed_generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw_states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def low_condition(rows: int = 2) -> Condition:
    return Condition(draw_states(rows, NUM_PATCHES, SHAPE.lowres_width), None)


def high_condition(rows: int = 2) -> Condition:
    return Condition(draw_states(rows, NUM_PATCHES, sum(SHAPE.highres_widths)), draw_states(rows, SHAPE.pooled_width, seed=1))


def load_parts(folder: Path) -> dict[str, object]:
    unet, vae = UNet2DConditionModel.from_pretrained(folder / "unet"), AutoencoderKL.from_pretrained(folder / "vae")
    return {"unet": unet, "vae": vae, "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False)}


def test_high_resolution_pictures_are_those_of_diffusers_own_pipeline(folder: Path) -> None:
    parts = load_parts(folder / "highres_pixel_decoding")
    pipeline = StableDiffusionXLPipeline(**parts, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    condition = high_condition()
    expected = pipeline(
        prompt_embeds=condition.states_BND, pooled_prompt_embeds=condition.pooled_BP,
        negative_prompt_embeds=torch.zeros_like(condition.states_BND), negative_pooled_prompt_embeds=torch.zeros_like(condition.pooled_BP),
        guidance_scale=3.0, num_inference_steps=2, height=HIGHRES.height, width=HIGHRES.width, generator=seed_generators(1, 2), output_type="np",
    ).images  # fmt: skip
    drawn = load(folder, "highres").draw(condition, generators=seed_generators(1, 2), sampling=HIGHRES)
    assert drawn.shape == (2, 2 * SIZE, SIZE, 3)
    assert np.abs(drawn - expected * 255).max() < 1  # rounding
    assert drawn.std() > 5


def test_low_resolution_pictures_are_those_of_diffusers_own_pipeline_where_nothing_is_padded(folder: Path) -> None:
    parts = load_parts(folder / "pixel_decoding")
    pipeline = StableDiffusionPipeline(
        **parts, text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    condition, empty = low_condition(), draw_states(NUM_PATCHES, SHAPE.lowres_width, seed=5)
    expected = pipeline(
        prompt_embeds=condition.states_BND, negative_prompt_embeds=empty.expand(2, -1, -1),
        guidance_scale=3.0, num_inference_steps=2, height=SIZE, width=SIZE, generator=seed_generators(1, 2), output_type="np",
    ).images  # fmt: skip
    decoder = PixelDecoder(parts["unet"], parts["vae"], parts["scheduler"], empty)
    drawn = decoder.draw(condition, generators=seed_generators(1, 2), sampling=SAMPLING)
    assert np.abs(drawn - expected * 255).max() < 1


def test_low_resolution_guidance_leads_away_from_the_empty_text_and_its_padding_is_hidden(folder: Path) -> None:
    told = load(folder, "lowres").tell(low_condition(), SAMPLING)
    states, mask = told["encoder_hidden_states"], told["encoder_attention_mask"]
    empty = torch.load(folder / "pixel_decoding" / "uncond_embeddings.bin", weights_only=True)
    assert states[0, :5].equal(empty[0])
    assert states[1, :5].equal(empty[0])
    assert states[:2, 5:].abs().max() == 0
    assert mask.tolist() == [[True] * 5 + [False] * (NUM_PATCHES - 5)] * 2 + [[True] * NUM_PATCHES] * 2


def test_a_high_resolution_unet_is_told_the_size_and_that_nothing_was_cut_off(folder: Path) -> None:
    told = load(folder, "highres").tell(high_condition(), HIGHRES)["added_cond_kwargs"]
    assert told["time_ids"].tolist() == [[32, 16, 0, 0, 32, 16]] * 4
    assert told["text_embeds"][:2].abs().max() == 0
    assert told["text_embeds"][2:].equal(high_condition().pooled_BP)


@pytest.mark.parametrize(("pixels", "condition"), [("lowres", low_condition()), ("highres", high_condition())])
def test_a_picture_depends_on_its_own_condition_and_noise(folder: Path, pixels: str, condition: Condition) -> None:
    decoder, sampling = load(folder, pixels), replace(SAMPLING, pixels=pixels)
    together = decoder.draw(condition, generators=seed_generators(1, 2), sampling=sampling).astype(int)
    second = Condition(condition.states_BND[1:], None if condition.pooled_BP is None else condition.pooled_BP[1:])
    alone = decoder.draw(second, generators=seed_generators(2), sampling=sampling).astype(int)
    assert np.abs(together[1] - alone[0]).max() <= 1  # last bits
    assert np.abs(decoder.draw(second, generators=seed_generators(3), sampling=sampling).astype(int) - alone).max() > 10


@pytest.mark.parametrize(("pixels", "condition"), [("lowres", low_condition()), ("highres", high_condition())])
def test_without_guidance_the_condition_alone_is_followed(folder: Path, pixels: str, condition: Condition) -> None:
    """Guidance 1 is u + (c - u)."""
    decoder, sampling = load(folder, pixels), replace(SAMPLING, pixels=pixels)
    plain = decoder.denoise(condition, generators=seed_generators(1, 2), sampling=replace(sampling, guidance_scale=1.0))
    nearly = decoder.denoise(condition, generators=seed_generators(1, 2), sampling=replace(sampling, guidance_scale=1.00001))
    assert torch.allclose(plain, nearly, atol=1e-3)  # of the other code path, a hundredth of a thousandth away


def test_numbers_that_are_not_finite_are_named(folder: Path) -> None:
    condition = low_condition()
    condition.states_BND[1, 0, 0] = float("nan")
    with pytest.raises(NotFiniteError) as caught:
        load(folder, "lowres").draw(condition, generators=seed_generators(1, 2), sampling=SAMPLING)
    assert caught.value.bad_B.tolist() == [False, True]


def test_a_unet_of_the_other_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "highres_pixel_decoding").symlink_to(folder / "pixel_decoding")
    with pytest.raises(ValueError, match=r"is like that of Stable Diffusion 1\.5, but highres needs the other kind"):
        load(tmp_path, "highres")


def test_the_empty_texts_states_must_fit(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"uncond_embeddings\.bin must hold one tensor of shape \(1, 4 at most, 16\)"):
        load_pixels(folder, "lowres", 4, device="cpu", dtype=torch.float32)


def test_a_size_that_cannot_be_halved_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"lavit\.sampling: width and height are 18 and 16, but they must be multiples of 4 px"):
        load(folder, "lowres").draw(low_condition(1), generators=seed_generators(1), sampling=replace(SAMPLING, width=18))
