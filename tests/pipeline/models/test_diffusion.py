"""The diffusion wrapper, on a tiny Stable Diffusion 1.5 folder. Run: pytest tests/pipeline/models/test_diffusion.py"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.models.diffusion import Diffusion, LookPrompt, NotFiniteError, Start, estimate_clean, load_diffusion
from tests.tiny_models import NUM_TOKENS, TOKEN_DIM, save_tiny_stable_diffusion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("sd") / "model")


@pytest.fixture(scope="module")
def diffusion(folder: Path) -> Diffusion:
    return load_diffusion(str(folder))


def make_generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_folder_has_all_parts_of_the_hubs_format(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= {
        "model_index.json", "text_encoder", "tokenizer", "unet", "vae", "scheduler", "feature_extractor",
    }  # fmt: skip


def test_sizes_come_from_the_model(diffusion: Diffusion) -> None:
    assert (diffusion.token_dim, diffusion.num_tokens, diffusion.image_size) == (TOKEN_DIM, NUM_TOKENS, 16)
    assert type(diffusion.pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"


def test_token_states_are_the_text_encoders_own(diffusion: Diffusion) -> None:
    states_BKD, mask_BK = diffusion.encode_prompts(["dog", "", "a dog and a cat"], batch_size=2)
    ids = diffusion.pipeline.tokenizer(["dog"], padding="max_length", max_length=NUM_TOKENS, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = diffusion.pipeline.text_encoder(ids).last_hidden_state[0]
    torch.testing.assert_close(states_BKD[0], expected)
    assert mask_BK.sum(dim=1).tolist() == [5, 2, NUM_TOKENS]  # begin, letters, end; the last is cut
    assert diffusion.encode_prompts([])[0].shape == (0, NUM_TOKENS, TOKEN_DIM)


def test_an_image_that_is_not_finite_is_told_from_those_that_are(diffusion: Diffusion) -> None:
    latents_BChw = torch.randn(3, *diffusion.latent_shape, generator=torch.Generator().manual_seed(0))
    expected = diffusion.decode_latents(latents_BChw)
    latents_BChw[1, 0, 0, 0] = torch.nan
    with pytest.raises(NotFiniteError, match="1 of 3 drawn images are not finite; set models.dtype to float32") as caught:
        diffusion.decode_latents(latents_BChw)
    assert caught.value.bad_B.tolist() == [False, True, False]
    assert (caught.value.images_BHWC[[0, 2]] == expected[[0, 2]]).all()


def test_token_states_can_take_part_in_a_loss(diffusion: Diffusion) -> None:
    weight = torch.ones(TOKEN_DIM, requires_grad=True)
    (diffusion.encode_prompts(["dog"])[0] @ weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("scheduler", ["dpm", "unipc", "ddim", "own"])
@pytest.mark.parametrize("num_texts", [1, 3])
def test_images_equal_those_of_the_public_pipeline(folder: Path, scheduler: str, num_texts: int) -> None:
    diffusion = load_diffusion(str(folder), scheduler=scheduler)
    states_BKD, _ = diffusion.encode_prompts(["dog", "cat"])
    prompt_BTD = states_BKD.repeat(1, num_texts, 1)
    images = diffusion.draw(prompt_BTD, generators=make_generators(1, 2), steps=4, guidance_scale=5.0)
    expected = diffusion.pipeline(
        prompt_embeds=prompt_BTD,
        negative_prompt_embeds=diffusion.build_negative(num_texts * NUM_TOKENS).expand(2, -1, -1),
        generator=make_generators(1, 2),
        num_inference_steps=4,
        guidance_scale=5.0,
        output_type="np",
    ).images
    np.testing.assert_array_equal(images, (expected * 255).round().astype(np.uint8))
    assert images.shape == (2, 16, 16, 3)


def test_images_without_guidance_equal_those_of_the_public_pipeline(diffusion: Diffusion) -> None:
    prompt_BTD, _ = diffusion.encode_prompts(["dog"])
    images = diffusion.draw(prompt_BTD, generators=make_generators(3), steps=3, guidance_scale=1.0)
    expected = diffusion.pipeline(
        prompt_embeds=prompt_BTD, generator=make_generators(3), num_inference_steps=3, guidance_scale=1.0, output_type="np"
    ).images
    np.testing.assert_array_equal(images, (expected * 255).round().astype(np.uint8))


def draw_with_look(diffusion: Diffusion, *, words: float, look: float, no_look: float = 0.0) -> np.ndarray:
    states_BKD, _ = diffusion.encode_prompts(["dog", "cat"])
    tokens = torch.randn(2, 3, TOKEN_DIM, generator=torch.Generator().manual_seed(4))
    prompt = LookPrompt(tokens, torch.full((3, TOKEN_DIM), no_look), look)
    return diffusion.draw(states_BKD, generators=make_generators(1, 2), steps=4, guidance_scale=words, look=prompt)


def test_guidance_in_two_parts_of_the_same_scale_is_guidance_to_words_and_look_together(diffusion: Diffusion) -> None:
    states_BKD, _ = diffusion.encode_prompts(["dog", "cat"])
    tokens = torch.randn(2, 3, TOKEN_DIM, generator=torch.Generator().manual_seed(4))
    expected = diffusion.pipeline(
        prompt_embeds=torch.cat([states_BKD, tokens], dim=1),
        negative_prompt_embeds=torch.cat([diffusion.build_negative(NUM_TOKENS), torch.zeros(3, TOKEN_DIM)]).expand(2, -1, -1),
        generator=make_generators(1, 2),
        num_inference_steps=4,
        guidance_scale=5.0,
        output_type="np",
    ).images
    drawn = draw_with_look(diffusion, words=5.0, look=5.0)
    assert np.abs(drawn.astype(int) - (expected * 255).round().astype(int)).max() <= 1  # the middle term cancels but for rounding


def test_a_look_of_no_weight_leaves_the_words_and_the_tokens_that_say_nothing(diffusion: Diffusion) -> None:
    states_BKD, _ = diffusion.encode_prompts(["dog", "cat"])
    padded = torch.cat([states_BKD, torch.full((2, 3, TOKEN_DIM), 0.5)], dim=1)
    negative = torch.cat([diffusion.build_negative(NUM_TOKENS), torch.full((3, TOKEN_DIM), 0.5)])
    expected = diffusion.pipeline(
        prompt_embeds=padded,
        negative_prompt_embeds=negative.expand(2, -1, -1),
        generator=make_generators(1, 2),
        num_inference_steps=4,
        guidance_scale=5.0,
        output_type="np",
    ).images
    np.testing.assert_array_equal(draw_with_look(diffusion, words=5.0, look=0.0, no_look=0.5), (expected * 255).round().astype(np.uint8))
    assert (draw_with_look(diffusion, words=5.0, look=3.0) != draw_with_look(diffusion, words=5.0, look=0.0)).any()


@pytest.mark.parametrize("scheduler", ["dpm", "unipc", "ddim", "own"])
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
def test_drawing_over_an_image_equals_the_public_image_to_image_pipeline(folder: Path, scheduler: str, strength: float) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    diffusion = load_diffusion(str(folder), scheduler=scheduler)
    prompt_BTD, _ = diffusion.encode_prompts(["dog", "cat"])
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    start = Start(diffusion.encode_images(pictures), strength)
    images = diffusion.draw(prompt_BTD, generators=make_generators(1, 2), steps=8, guidance_scale=5.0, start=start)
    public = StableDiffusionImg2ImgPipeline(**diffusion.pipeline.components, requires_safety_checker=False)
    expected = public(
        prompt_embeds=prompt_BTD,
        negative_prompt_embeds=diffusion.build_negative(NUM_TOKENS).expand(2, -1, -1),
        image=start.latents_BChw,
        strength=strength,
        generator=make_generators(1, 2),
        num_inference_steps=8,
        guidance_scale=5.0,
        output_type="np",
    ).images
    np.testing.assert_array_equal(images, (expected * 255).round().astype(np.uint8))


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.5])
def test_a_strength_that_is_none_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=f"strength is {strength}, but it must be above 0 and at most 1"):
        Start(torch.zeros(1, 4, 2, 2), strength)


def test_keys_and_values_of_a_prompt_are_computed_once_a_drawing(diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt_BTD, _ = diffusion.encode_prompts(["dog"])
    layers = [layer for name, layer in diffusion.pipeline.unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
    assert layers
    calls: list[torch.nn.Module] = []
    compute = torch.nn.Linear.forward

    def count(layer: torch.nn.Linear, given: torch.Tensor) -> torch.Tensor:
        calls.append(layer)
        return compute(layer, given)

    monkeypatch.setattr(torch.nn.Linear, "forward", count)
    for _ in range(2):  # the second drawing does not get what the first has kept
        calls.clear()
        diffusion.draw(prompt_BTD, generators=make_generators(1), steps=3, guidance_scale=5.0)
        assert [calls.count(layer) for layer in layers] == [1] * len(layers)
    assert not any("forward" in vars(layer) for layer in layers)


def test_threads_draw_side_by_side_with_one_model_what_they_draw_in_turn(diffusion: Diffusion) -> None:
    states_BKD, _ = diffusion.encode_prompts(["dog", "cat", "a bird", "car"])

    def draw(index: int) -> np.ndarray:
        return diffusion.draw(states_BKD[[index]], generators=make_generators(index), steps=6, guidance_scale=4.0)

    in_turn = [draw(index) for index in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            np.testing.assert_array_equal(list(threads.map(draw, range(4))), in_turn)
    assert not any("forward" in vars(module) for module in diffusion.pipeline.unet.modules())


def test_an_image_is_the_same_whatever_else_is_in_the_batch(diffusion: Diffusion) -> None:
    states_BKD, _ = diffusion.encode_prompts(["dog", "cat", "a bird", "car"])
    first = diffusion.draw(states_BKD[:3], generators=make_generators(7, 8, 9), steps=3, guidance_scale=4.0)
    second = diffusion.draw(states_BKD[[3, 2, 0]], generators=make_generators(1, 9, 7), steps=3, guidance_scale=4.0)
    np.testing.assert_array_equal(first[0], second[2])
    np.testing.assert_array_equal(first[2], second[1])
    assert (first[0] != first[1]).any()


def test_the_same_seed_draws_the_same_image_twice(diffusion: Diffusion) -> None:
    states_BKD, _ = diffusion.encode_prompts(["dog"])
    first, second = (diffusion.draw(states_BKD, generators=make_generators(7), steps=3, guidance_scale=4.0) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_negative_prompt_is_the_empty_text_repeated_to_length(diffusion: Diffusion) -> None:
    empty_KD = diffusion.encode_prompts([""])[0][0]
    negative_TD = diffusion.build_negative(NUM_TOKENS + 5)
    torch.testing.assert_close(negative_TD[:NUM_TOKENS], empty_KD)
    torch.testing.assert_close(negative_TD[NUM_TOKENS:], empty_KD[:5])


def test_the_weights_are_frozen(diffusion: Diffusion) -> None:
    modules = (diffusion.pipeline.unet, diffusion.pipeline.vae, diffusion.pipeline.text_encoder)
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())


def test_wrong_settings_are_named(folder: Path, diffusion: Diffusion, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scheduler is 'euler', but it must be one of: dpm, unipc, ddim, own"):
        load_diffusion(str(folder), scheduler="euler")
    with pytest.raises(ValueError, match="2 prompts need 2 generators, not 1"):
        diffusion.draw(torch.zeros(2, 12, TOKEN_DIM), generators=make_generators(1), steps=1, guidance_scale=1.0)
    with pytest.raises(ValueError, match="diffusion model"):
        load_diffusion(str(tmp_path))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_clean_latents_come_back_from_what_a_perfect_model_would_say_of_noisy_ones(prediction_type: str) -> None:
    clean, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    alpha = torch.tensor(0.3)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    output = {"epsilon": noise, "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * clean, "sample": clean}[prediction_type]
    torch.testing.assert_close(estimate_clean(noisy, output, alpha, prediction_type), clean, atol=1e-5, rtol=1e-5)


def test_a_one_step_estimate_reaches_prompt_and_look_and_factors_of_one_change_nothing(diffusion: Diffusion) -> None:
    prompt = diffusion.encode_prompts(["a", "b"])[0].requires_grad_()
    tokens, factors = torch.randn(2, 2, TOKEN_DIM, generator=torch.Generator().manual_seed(1)).requires_grad_(), torch.ones(2, requires_grad=True)
    look = LookPrompt(tokens, torch.zeros(2, TOKEN_DIM), 2.0 * factors, factors)

    def estimate(look: LookPrompt) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(index) for index in range(2)]
        return diffusion.estimate_pixels(prompt, generators=generators, guidance_scale=3.0, look=look)

    pixels = estimate(look)
    assert pixels.shape == (2, 3, 16, 16)
    assert 0 <= pixels.min() < pixels.max() <= 1
    gradients = torch.autograd.grad(pixels.square().sum(), [prompt, tokens, factors])
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    with torch.no_grad():
        torch.testing.assert_close(estimate(LookPrompt(tokens, torch.zeros(2, TOKEN_DIM), 2.0)), pixels)


def test_every_image_has_its_own_scales_of_guidance(diffusion: Diffusion) -> None:
    prompt = diffusion.encode_prompts(["a", "a"])[0]
    tokens = torch.randn(1, 2, TOKEN_DIM, generator=torch.Generator().manual_seed(1)).expand(2, -1, -1)
    options = {"steps": 3, "guidance_scale": 3.0}

    def draw(scale: float | torch.Tensor, words: torch.Tensor | None) -> np.ndarray:
        look = LookPrompt(tokens, torch.zeros(2, TOKEN_DIM), scale, words)
        return diffusion.draw(prompt, generators=[torch.Generator().manual_seed(0) for _ in range(2)], look=look, **options).astype(int)

    both = draw(torch.tensor([2.0, 6.0]), torch.tensor([1.0, 0.5]))
    assert np.abs(both[0] - draw(2.0, None)[0]).max() <= 1
    options["guidance_scale"] = 1.5
    assert np.abs(both[1] - draw(6.0, None)[1]).max() <= 1
    assert np.abs(both[0] - both[1]).max() > 1
