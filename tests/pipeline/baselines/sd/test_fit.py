"""LoRA tuning of Stable Diffusion. Run: `python -m pytest tests/pipeline/baselines/sd`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.baselines.sd import fit
from pipeline.baselines.sd.config import StableDiffusionConfig
from pipeline.baselines.sd.fit import TextedImage, fit_lora
from pipeline.models.denoising import Denoiser
from pipeline.models.diffusion import Diffusion, build_guidance, load_diffusion
from pipeline.models.lora import add_lora, load_lora
from pipeline.randomness import make_generator
from tests.configs import SD
from tests.tiny_models import save_tiny_stable_diffusion

CONFIG = replace(SD, lora_rank=2, learning_rate=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def diffusion(folder: Path) -> Diffusion:
    return load_diffusion(str(folder))


def make_images(count: int) -> list[TextedImage]:
    return [TextedImage(f"i{index}", torch.randn(4, 8, 8, generator=make_generator(0, str(index))), f"thing {index}") for index in range(count)]


def train(diffusion: Diffusion, config: StableDiffusionConfig = CONFIG):
    images = make_images(4)
    return fit_lora(images, images[:2], config, Denoiser(diffusion), revision="tiny", seed=0, checkpoint_every=2)


def draw(diffusion: Diffusion) -> torch.Tensor:
    states, _ = diffusion.encode_prompts(["a b"])
    prompts, scales = build_guidance(diffusion.build_negative(states.shape[1])[None], states, 2.0, None)
    return diffusion.denoise(prompts, scales, generators=[torch.Generator().manual_seed(0)], steps=2)


def test_new_adapters_change_nothing_and_are_all_that_is_trained(diffusion: Diffusion) -> None:
    before = draw(diffusion)
    weights = add_lora(diffusion, rank=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(diffusion), before)
    trainable = {name for name, parameter in diffusion.pipeline.unet.named_parameters() if parameter.requires_grad}
    assert trainable == set(weights) != set()


def test_tuning_lowers_the_error_on_what_it_sees_and_the_weights_draw_the_same_in_a_fresh_model(diffusion: Diffusion, folder: Path) -> None:
    training, state = train(diffusion, replace(CONFIG, num_steps=30))
    losses = [row["validation_loss"] for row in state.curves if "validation_loss" in row]
    assert losses[-1] < losses[0]
    fresh = load_diffusion(str(folder))
    plain = draw(fresh)
    load_lora(fresh, {})
    assert torch.equal(draw(fresh), plain)
    load_lora(fresh, {name: weight.detach() for name, weight in training.weights.items()})
    torch.testing.assert_close(draw(fresh), draw(diffusion))
    assert not torch.allclose(draw(fresh), plain)


def test_a_tuning_that_breaks_off_goes_on_to_the_same_weights(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole_training, expected = train(load_diffusion(str(folder)))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "broken"))
    whole = fit.compute_losses

    def break_off(images, denoiser, *, name: str, seed: int):
        if name == "3":
            raise KeyboardInterrupt
        return whole(images, denoiser, name=name, seed=seed)

    monkeypatch.setattr(fit, "compute_losses", break_off)
    with pytest.raises(KeyboardInterrupt):
        train(load_diffusion(str(folder)))
    monkeypatch.setattr(fit, "compute_losses", whole)
    training, resumed = train(load_diffusion(str(folder)))
    assert resumed.curves == expected.curves
    assert all(torch.equal(training.weights[name], weight) for name, weight in whole_training.weights.items())


def test_weights_of_another_model_are_refused(diffusion: Diffusion) -> None:
    with pytest.raises(ValueError, match="another diffusion model"):
        load_lora(diffusion, {"x.lora_A.default.weight": torch.zeros(2, 3)})
