"""Pseudo-words in prompts, and the training objective, against the pipeline's own encoder and scheduler.

Run: `python -m pytest tests/pipeline/models/test_pseudo_words.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from pipeline.models import denoising
from pipeline.models.denoising import Denoiser, draw_noise, encode_images
from pipeline.models.diffusion import Diffusion, load_diffusion
from pipeline.models.pseudo_words import PseudoWordEncoder
from pipeline.models.templates import check_template
from pipeline.randomness import make_generator
from tests.tiny_models import NUM_TOKENS, TOKEN_DIM, save_tiny_stable_diffusion


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    return load_diffusion(str(save_tiny_stable_diffusion(tmp_path_factory.mktemp("models") / "sd")))


def test_a_pseudo_word_with_a_real_words_vector_encodes_like_that_word(diffusion: Diffusion) -> None:
    encoder = PseudoWordEncoder(diffusion, num_vectors=1)
    vectors_BVE = torch.stack([encoder.init_vectors("x"), encoder.init_vectors("y")])
    states_BKD = encoder.encode([encoder.write_prompt("{text} in {style}", "a b")] * 2, vectors_BVE)
    expected_BKD, _ = diffusion.encode_prompts(["a b in x", "a b in y"])
    torch.testing.assert_close(states_BKD, expected_BKD)
    assert not torch.equal(states_BKD[0], states_BKD[1])


@pytest.mark.slow
def test_a_pseudo_word_encodes_like_a_word_in_the_embedded_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT")  # the assembled model is the repository's
    embedded = load_diffusion("embedded/diffusion")
    encoder = PseudoWordEncoder(embedded, num_vectors=1)
    states_BKD = encoder.encode([encoder.write_prompt("{text}, {style}", "telephone booth")], encoder.init_vectors("neon")[None])
    expected_BKD, _ = embedded.encode_prompts(["telephone booth, neon"])
    torch.testing.assert_close(states_BKD, expected_BKD, rtol=1e-4, atol=1e-5)


def test_several_vectors_stand_one_behind_the_other(diffusion: Diffusion) -> None:
    encoder = PseudoWordEncoder(diffusion, num_vectors=2)
    vectors_VE = torch.cat([PseudoWordEncoder(diffusion, num_vectors=1).init_vectors(letter) for letter in "xy"])
    states_BKD = encoder.encode([encoder.write_prompt("{text} {style}", "a")], vectors_VE[None])
    torch.testing.assert_close(states_BKD, diffusion.encode_prompts(["a x y"])[0])
    assert torch.equal(*PseudoWordEncoder(diffusion, num_vectors=2).init_vectors("x"))


def test_encoding_leaves_the_model_as_it_was_and_gradients_reach_the_vectors_alone(diffusion: Diffusion) -> None:
    before, _ = diffusion.encode_prompts(["a b"])
    encoder = PseudoWordEncoder(diffusion, num_vectors=1)
    vectors = encoder.init_vectors("x")[None].requires_grad_()
    encoder.encode([encoder.write_prompt("{text} {style}", "a")], vectors).sum().backward()
    assert vectors.grad is not None
    assert torch.equal(diffusion.encode_prompts(["a b"])[0], before)
    assert all(parameter.grad is None for parameter in diffusion.pipeline.text_encoder.parameters())


def test_a_long_text_loses_words_but_never_the_pseudo_word(diffusion: Diffusion) -> None:
    encoder = PseudoWordEncoder(diffusion, num_vectors=2)
    prompt = encoder.write_prompt("{text} {style}", " ".join("abcdefghijklmnop"))
    assert prompt == f"{' '.join('abcdefghijklmnop'[: NUM_TOKENS - 4])} <pseudo0> <pseudo1>"
    assert encoder.write_prompt("{text} {style}", "a") == "a <pseudo0> <pseudo1>"


def test_a_word_that_fills_the_encoder_alone_leaves_room_for_the_pseudo_word(diffusion: Diffusion) -> None:
    encoder = PseudoWordEncoder(diffusion, num_vectors=2)
    assert encoder.write_prompt("{style}: {text}", "x" * 40) == f"<pseudo0> <pseudo1>: {'x' * (NUM_TOKENS - 5)}"


@pytest.mark.parametrize("template", ["{text}", "in the style of {style}"])
def test_a_template_without_a_hole_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="must hold"):
        check_template(template)


def test_an_initial_word_without_tokens_is_refused(diffusion: Diffusion) -> None:
    with pytest.raises(ValueError, match="has no token"):
        PseudoWordEncoder(diffusion, num_vectors=1).init_vectors(" ")


def make_batch(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    timesteps = torch.randint(1000, (size,), generator=generator)
    return (
        torch.randn(size, 4, 8, 8, generator=generator),
        torch.randn(size, NUM_TOKENS, TOKEN_DIM, generator=generator),
        timesteps,
        torch.randn(size, 4, 8, 8, generator=generator),
    )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_the_error_of_what_the_model_predicts(diffusion: Diffusion, kind: str) -> None:
    denoiser = Denoiser(diffusion)
    denoiser.schedule = DDPMScheduler.from_config(diffusion.pipeline.scheduler.config, prediction_type=kind)
    latent, prompt, timestep, noise = make_batch(3)
    alpha = denoiser.schedule.alphas_cumprod[timestep].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
    target = {"epsilon": noise, "sample": latent, "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * latent}[kind]
    with torch.no_grad():
        loss_B = denoiser.compute_loss(latent, prompt, timestep, noise)
        predicted = diffusion.pipeline.unet(noisy, timestep, prompt).sample
    torch.testing.assert_close(loss_B, (predicted - target).square().mean(dim=(1, 2, 3)))


def test_an_unknown_kind_of_prediction_is_named(diffusion: Diffusion) -> None:
    denoiser = Denoiser(diffusion)
    denoiser.schedule.register_to_config(prediction_type="score")
    with pytest.raises(ValueError, match="'score'.*epsilon, v_prediction"):
        denoiser.compute_loss(*make_batch(1))


def test_large_images_recompute_their_activations_to_the_same_gradient(diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    def differentiate() -> tuple[torch.Tensor, torch.Tensor]:
        latent, prompt, timestep, noise = make_batch(2)
        prompt.requires_grad_()
        loss_B = Denoiser(diffusion).compute_loss(latent, prompt, timestep, noise)
        loss_B.sum().backward()
        return loss_B.detach(), prompt.grad

    unet = diffusion.pipeline.unet
    kept = differentiate()
    assert not unet.is_gradient_checkpointing
    monkeypatch.setattr(denoising, "MIN_CHECKPOINTED_SIZE", diffusion.image_size)
    recomputed = differentiate()
    assert unet.is_gradient_checkpointing
    unet.disable_gradient_checkpointing()
    torch.testing.assert_close(recomputed, kept)


def test_latents_are_scaled_means_that_decode_to_the_image_size(diffusion: Diffusion) -> None:
    images = [Image.fromarray(np.full((20, 30, 3), level, dtype=np.uint8)) for level in (0, 255)]
    latent_BChw = encode_images(images, diffusion)
    assert latent_BChw.shape == (2, 4, 8, 8)
    torch.testing.assert_close(encode_images(images, diffusion), latent_BChw, rtol=0, atol=0)
    black = torch.full((1, 3, 16, 16), -1.0)
    vae = diffusion.pipeline.vae
    with torch.no_grad():
        torch.testing.assert_close(latent_BChw[:1], vae.encode(black).latent_dist.mean * vae.config.scaling_factor)
    assert diffusion.decode_latents(latent_BChw).shape == (2, 16, 16, 3)


def test_noise_depends_on_its_generator_alone() -> None:
    first, second = (draw_noise((4, 8, 8), 1000, generator=make_generator(0, "a", "b")) for _ in range(2))
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])
    assert 0 <= first[0] < 1000
